"""What a device is measured with: seconds of its work, and the most memory that it took."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from dance_ondevice.benchmarks.stream.memory import peak_bytes as peak_bytes_of_process


def device_clock(device: str) -> Callable[[], float]:
    """CPU seconds of this process on "cpu"; else wall seconds, read when the GPU's queue is drained."""
    if device == "cpu":
        return time.process_time

    def drained() -> float:
        torch.cuda.synchronize()
        return time.monotonic()

    return drained


def peak_bytes(device: str) -> int:
    """Most memory so far: of this process on "cpu", else of the GPU's allocator."""
    return peak_bytes_of_process() if device == "cpu" else torch.cuda.max_memory_allocated()
