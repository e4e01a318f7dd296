from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dance_ondevice.training.precision import GradientScaler, Precision, autocast


def weight_gradient(conv: nn.Conv2d, x: Tensor, precision: Precision) -> Tensor:
    conv = copy.deepcopy(conv)
    with autocast(conv, precision):
        y = conv(x)
    y.float().square().mean().backward()
    assert conv.weight.grad is not None
    return conv.weight.grad


@pytest.mark.parametrize(
    ("conv", "groups", "dilation", "width"),
    [
        (nn.Conv2d, 1, 1, 32),
        (nn.Conv2d, 1, 4, 32),
        (nn.Conv2d, 32, 1, 32),
        (nn.Conv2d, 32, 2, 32),
        (nn.Conv2d, 32, 4, 32),
        (nn.Conv2d, 8, 2, 32),
        (nn.Conv2d, 1, 1, 20),  # a width that slimming may leave
        (nn.Conv2d, 1, 2, 20),
        (nn.Conv2d, 1, 2, 51),
        (nn.Conv2d, 4, 2, 40),
        (nn.ConvTranspose2d, 1, 2, 20),
        (nn.ConvTranspose2d, 1, 1, 20),
    ],
    ids=str,
)
def test_bf16_gradients_are_those_of_fp32(conv: type[Any], groups: int, dilation: int, width: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, width, 24, 48).to(memory_format=torch.channels_last)
    layer = conv(width, width, 3, padding=dilation, dilation=dilation, groups=groups, bias=False)
    layer = layer.to(memory_format=torch.channels_last)
    exact, low = weight_gradient(layer, x, "fp32"), weight_gradient(layer, x, "bf16")
    assert float((low - exact).norm() / exact.norm()) < 0.02


def test_the_model_is_left_as_it_was() -> None:
    conv = nn.Conv2d(4, 4, 3, dilation=2, groups=4)
    with autocast(conv, "bf16"):
        assert conv(torch.rand(1, 4, 8, 8)).dtype == torch.float32
    assert "forward" not in vars(conv)
    assert not torch.is_autocast_enabled("cpu")


def test_the_factor_of_fp16_adapts_and_a_training_that_diverged_is_told() -> None:
    scaler = GradientScaler(enabled=True)
    first = scaler.scale
    assert scaler.overflowed(math.inf)
    assert scaler.scale == first / 2
    assert not any(scaler.overflowed(1.0) for _ in range(500))
    assert scaler.scale == first, "it rises again"
    assert [scaler.overflowed(math.nan) for _ in range(20)] == [True] * 19 + [False]

    off = GradientScaler(enabled=False)
    assert not off.overflowed(math.inf)
    assert off.scale == 1.0


def test_gradients_are_those_of_the_loss_whatever_the_factor() -> None:
    scaler, weight = GradientScaler(enabled=True), nn.Parameter(torch.tensor([2.0]))
    (scaler.scale * weight.square().sum()).backward()
    scaler.unscale([weight, nn.Parameter(torch.zeros(1))])
    assert weight.grad is not None
    assert weight.grad.tolist() == [4.0]
