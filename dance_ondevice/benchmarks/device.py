"""What a device is measured with: seconds of its work, and the most memory that it took."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch


def device_clock(device: str) -> Callable[[], float]:
    """CPU seconds of this process on "cpu"; else wall seconds, read when the GPU's queue is drained."""
    if device == "cpu":
        return time.process_time

    def drained() -> float:
        torch.cuda.synchronize()
        return time.monotonic()

    return drained


def forget_peak() -> None:
    """Let ``peak_bytes`` of a CPU begin anew from what is resident now, where the kernel allows that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: str = "cpu") -> int:
    """Most memory, so far or since ``forget_peak``: resident on "cpu", else of the GPU's allocator."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return torch.cuda.max_memory_allocated()
