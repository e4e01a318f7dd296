"""Precision of training: fp32, bf16 or, on GPUs without bf16, fp16; the choice of the faster one here."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from dance_ondevice.models.forward import channels_last, outputs
from dance_ondevice.training.batches import MIN_BATCH

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16"]
#: Of what runs in half precision.
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_WORTHWHILE = 0.9
#: Channels that oneDNN takes at a time.
_BLOCK = 16
#: Factor of the loss that training in fp16 begins with.
_FIRST_SCALE = 2.0**14
#: The factor doubles after so many steps in a row without an overflow.
_STEADY = 500
#: Overflows in a row after which it is no matter of the factor.
_MOST_OVERFLOWS = 20


@contextlib.contextmanager
def exact_layers(model: nn.Module, precision: Precision) -> Iterator[None]:
    """A context around forward and backward pass in which some convolutions stay in 32 bits on the CPU.

    It is around the backward pass as well, since checkpointed blocks run once more in there, and must then
    compute what they did before.

    There are two kinds (oneDNN, as of torch 2.13). For dilated convolutions with groups, or whose inputs are
    no multiple of 16 as slimming may leave them, it computes a wrong gradient of the weights in bf16, off by
    more than its own length, infinite or NaN; a test measures it, so that the exception can be removed when
    the library is fixed. For strided depthwise ones the backward pass takes many times as long as in fp32.
    """
    on_cpu = next(model.parameters()).device.type == "cpu"
    exact = [m for _, m in model.named_modules() if _is_awkward(m)] if precision in _TYPES and on_cpu else []
    for module in exact:
        module.forward = functools.partial(_forward_in_fp32, module)
    try:
        yield
    finally:
        for module in exact:
            del module.forward


def autocast(model: nn.Module, precision: Precision) -> torch.autocast:
    """A context in which the model's convolutions and matrix products run in ``precision``.

    It is for the forward pass, within :func:`exact_layers`.
    """
    device = next(model.parameters()).device
    return torch.autocast(device.type, _TYPES.get(precision), enabled=precision in _TYPES)


def _is_awkward(module: nn.Module) -> bool:
    if not isinstance(module, _ConvNd):
        return False
    if module.groups > 1 and max(module.stride) > 1 and not module.transposed:
        return True
    # The gradient of a transposed convolution's weights is computed with its two sides exchanged.
    inputs = module.out_channels if module.transposed else module.in_channels
    return max(module.dilation) > 1 and (module.groups > 1 or inputs % _BLOCK > 0)


def _forward_in_fp32(module: nn.Module, *given: Any, **named: Any) -> Tensor:
    values = (*given, *named.values())
    x = next(value for value in values if isinstance(value, Tensor))
    with torch.autocast(x.device.type, enabled=False):
        found: Tensor = type(module).forward(
            module, *map(_single, given), **{name: _single(value) for name, value in named.items()}
        )
        return found.to(x.dtype)


def _single(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) else value


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
    trial = channels_last(copy.deepcopy(model)).train()
    device = next(trial.parameters()).device
    # Random, since zeros would have denormal gradients, which are slow in fp32 alone.
    images = torch.rand((max(MIN_BATCH, batch_size), 3, *size), generator=torch.Generator().manual_seed(0))
    images = images.to(device).contiguous(memory_format=torch.channels_last)

    def seconds(precision: Precision) -> float:
        best = math.inf
        for index in range(steps + 1):
            begin = clock()
            with exact_layers(trial, precision):
                with autocast(trial, precision):
                    heads = outputs(trial, images)
                loss = torch.stack([head.float().square().mean() for head in heads]).sum()
                loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
            elapsed = clock() - begin
            if index:
                best = min(best, elapsed)
        return best

    with torch.random.fork_rng(devices=[]):  # dropout draws
        fp32, bf16 = seconds("fp32"), seconds("bf16")
    chosen: Precision = "bf16" if bf16 <= _WORTHWHILE * fp32 else "fp32"
    log.info("precision measured fp32_s=%.4f bf16_s=%.4f chosen=%s", fp32, bf16, chosen)
    return chosen


class GradientScaler:
    """The factor of the loss in fp16, whose smallest numbers are larger than many gradients.

    As in Micikevicius et al., "Mixed Precision Training", ICLR 2018, section 3.2: the loss is multiplied,
    gradients are divided before they are used, and a step whose gradients overflow is left out.

    Attributes:
        scale: The factor; set it to resume.
    """

    def __init__(self, *, enabled: bool) -> None:
        """Begin with a large factor, which the first steps bring down."""
        self._enabled = enabled
        self.scale = _FIRST_SCALE if enabled else 1.0
        self._steady = self._overflows = 0

    def unscale(self, parameters: Iterable[nn.Parameter]) -> None:
        """Divide the gradients by the factor."""
        if self._enabled:
            gradients = [each.grad for each in parameters if each.grad is not None]
            torch._foreach_mul_(gradients, 1.0 / self.scale)

    def overflowed(self, norm: float) -> bool:
        """Whether this step must be left out, by the length of its gradient; adapts the factor.

        False after many overflows in a row: then the training itself has diverged.
        """
        if not self._enabled:
            return False
        if math.isfinite(norm):
            self._overflows, self._steady = 0, self._steady + 1
            if self._steady >= _STEADY:
                self.scale, self._steady = self.scale * 2, 0
            return False
        self.scale, self._steady, self._overflows = max(1.0, self.scale / 2), 0, self._overflows + 1
        return self._overflows < _MOST_OVERFLOWS
