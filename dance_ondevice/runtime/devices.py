"""Where a model computes: on the CPU, or by CUDA on a GPU that works and has memory left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

__all__ = ["Chosen", "DeviceName", "choose", "lowered_precision", "on_device"]

#: What ``training.device`` may be.
DeviceName = Literal["auto", "cpu", "cuda"]
#: Free bytes that a GPU must have: a batch of small images and the libraries of CUDA need about as much.
LEAST_FREE = 512 << 20
#: Share of the free memory that this process may take; the rest is for whoever else uses the GPU.
_SHARE = 0.9
#: Compute capability from which half precision is quicker than fp32 (tensor cores).
_HALF = (7, 0)


@dataclass(frozen=True)
class Chosen:
    """A device, and why it is that one; ``reason`` is empty where nobody asked for another."""

    name: Literal["cpu", "cuda"]
    reason: str = ""


def choose(wanted: DeviceName) -> Chosen:
    """Choose a device, and limit this process to its share of the GPU's free memory.

    A GPU is used only after a small convolution ran on it forward and backward: a driver, a build of torch
    and a GPU that do not go together show it there and not in the middle of a training.

    Args:
        wanted: ``auto`` and ``cuda`` take the GPU where they can; only ``cuda`` tells why not where torch is
            built without CUDA or sees no GPU.
    """
    if wanted == "cpu":
        return Chosen("cpu")
    if not torch.cuda.is_available():
        built = torch.version.cuda is not None
        why = "torch sees no GPU" if built else f"torch {torch.__version__} is built without CUDA"
        return Chosen("cpu", why if wanted == "cuda" else "")
    try:
        free, total = torch.cuda.mem_get_info()
        if free < LEAST_FREE:
            return Chosen("cpu", f"the GPU has {free >> 20} MB free, {LEAST_FREE >> 20} MB are needed")
        torch.cuda.set_per_process_memory_fraction(min(1.0, _SHARE * free / total))
        _try_out(torch.device("cuda"))
    except RuntimeError as error:  # what torch raises for anything that CUDA refuses
        return Chosen("cpu", f"the GPU does not work: {_first_line(error)}")
    return Chosen("cuda")


def lowered_precision() -> Literal["fp32", "bf16", "fp16"]:
    """The precision that ``auto`` means on the GPU: bf16 or fp16 where it has units for it, else fp32."""
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp16" if torch.cuda.get_device_capability() >= _HALF else "fp32"


@contextlib.contextmanager
def on_device(device: Literal["cpu", "cuda"], *models: nn.Module) -> Iterator[None]:
    """Move models to a device within a context, and back to the CPU after it.

    Their parameters stay the same objects, so that an optimiser made within the context works on the model.
    """
    if device != "cpu":
        for model in models:
            model.to(device)
    try:
        yield
    finally:
        if device != "cpu":
            for model in models:
                model.to("cpu")


def _try_out(device: torch.device) -> None:
    layer = nn.Conv2d(3, 8, 3).to(device)
    layer(torch.zeros(1, 3, 8, 8, device=device)).sum().backward()
    torch.cuda.synchronize(device)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
