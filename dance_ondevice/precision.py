"""Numbers of 16 or 32 bits: which of them trains faster on this machine."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from dance_ondevice.batches import MIN_BATCH
from dance_ondevice.models.forward import outputs

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16"]
_WORTHWHILE = 0.9


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")  # type: ignore[return-value]


def measure_precision(
    model: nn.Module,
    size: tuple[int, int],
    batch_size: int,
    *,
    steps: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> Precision:
    """Which precision trains faster here: bf16 if it takes at most 0.9 of fp32's time.

    Args:
        model: Left untouched: a copy is timed.
        size: (height, width) of the images.
        batch_size: Images a batch.
        steps: Forward and backward passes to time, after one that is not; the fastest counts.
        clock: Seconds, for durations.
    """
    trial = copy.deepcopy(model).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    device = next(trial.parameters()).device
    images = torch.zeros(max(MIN_BATCH, batch_size), 3, *size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)

    def seconds(precision: Precision) -> float:
        best = math.inf
        for index in range(steps + 1):
            begin = clock()
            with autocast(device, precision):
                loss = sum(
                    (head.float().mean() for head in outputs(trial, images)), torch.zeros((), device=device)
                )
            loss.backward()  # type: ignore[no-untyped-call]
            if index:
                best = min(best, clock() - begin)
        return best

    fp32, bf16 = seconds("fp32"), seconds("bf16")
    chosen: Precision = "bf16" if bf16 <= _WORTHWHILE * fp32 else "fp32"
    log.info("precision measured fp32_s=%.4f bf16_s=%.4f chosen=%s", fp32, bf16, chosen)
    return chosen
