from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dance_ondevice.images.codec import encode_png
from dance_ondevice.models.card import Normalisation
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.precision import (
    GradientScaler,
    Precision,
    autocast,
    exact_layers,
    measure_precision,
)
from dance_ondevice.training.trainer import Trainer, TrainingOptions


def weight_gradient(conv: nn.Conv2d, x: Tensor, precision: Precision) -> Tensor:
    conv = copy.deepcopy(conv)
    with exact_layers(conv, precision), autocast(conv, precision):
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
    with exact_layers(conv, "bf16"), autocast(conv, "bf16"):
        assert conv(torch.rand(1, 4, 8, 8)).dtype == torch.float32
    assert "forward" not in vars(conv)
    assert not torch.is_autocast_enabled("cpu")


class Recomputed(nn.Module):
    """A block that the backward pass runs once more, and layers that are called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Conv2d(3, 9, 3, dilation=2, groups=3)
        self.up = nn.ConvTranspose2d(9, 4, 3, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        inside = checkpoint(lambda y: self.block(input=y), x, use_reentrant=False)
        found: Tensor = self.up(inside, output_size=x.shape[2:])
        return found


def test_recomputed_blocks_and_layers_called_by_keyword_stay_in_fp32(tmp_path: Path) -> None:
    """In the trainer, and where the precision is measured, as every first round does."""
    torch.manual_seed(0)
    model = Recomputed()
    assert measure_precision(model, (32, 32), 2, steps=1, clock=iter(range(9)).__next__) == "fp32"
    image, label = tmp_path / "image.png", tmp_path / "label.png"
    image.write_bytes(encode_png(np.zeros((32, 32, 3), np.uint8)))
    label.write_bytes(encode_png(np.zeros((32, 32), np.uint8)))
    options = TrainingOptions(steps=1, batch_size=2, num_classes=4, precision="bf16")
    samples = 2 * [TrainingSample(image=image, label=label)]
    assert [report.step for report in Trainer(model, samples, options, Normalisation())] == [1]


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
