from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from dance_ondevice.training.precision import Precision, autocast


def weight_gradient(conv: nn.Conv2d, x: Tensor, precision: Precision) -> Tensor:
    conv = copy.deepcopy(conv)
    with autocast(conv, precision):
        y = conv(x)
    y.float().square().mean().backward()
    assert conv.weight.grad is not None
    return conv.weight.grad


@pytest.mark.parametrize(("groups", "dilation"), [(1, 1), (1, 4), (32, 1), (32, 2), (32, 4), (8, 2)], ids=str)
def test_bf16_gradients_are_those_of_fp32(groups: int, dilation: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 32, 24, 30).to(memory_format=torch.channels_last)
    conv = nn.Conv2d(32, 32, 3, padding=dilation, dilation=dilation, groups=groups, bias=False)
    conv = conv.to(memory_format=torch.channels_last)
    exact, low = weight_gradient(conv, x, "fp32"), weight_gradient(conv, x, "bf16")
    assert float((low - exact).norm() / exact.norm()) < 0.02


def test_the_model_is_left_as_it_was() -> None:
    conv = nn.Conv2d(4, 4, 3, dilation=2, groups=4)
    with autocast(conv, "bf16"):
        assert conv(torch.rand(1, 4, 8, 8)).dtype == torch.float32
    assert "forward" not in vars(conv)
    assert not torch.is_autocast_enabled("cpu")
