"""A small network, slimming it, and what must hold afterwards."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dance_ondevice.models.channels import channels_of
from dance_ondevice.models.cost import count_macs, count_parameters
from dance_ondevice.models.fastscnn import FastSCNN
from dance_ondevice.models.forward import logits
from dance_ondevice.models.registry import build
from dance_ondevice.slimming.slim import SlimReport, slim

SIZE = (64, 96)
ARGUMENTS = {"downsample": [16, 24, 32], "bottlenecks": [32, 32, 48], "repeats": [2, 1, 2], "fusion": 32}


def small(*, auxiliary: bool = False) -> nn.Module:
    return build("fastscnn", 5, {**ARGUMENTS, "auxiliary": auxiliary})


def slim_to(model: nn.Module, fraction: float, **options: Any) -> SlimReport:
    return slim(model, target_macs=round(fraction * count_macs(model, *SIZE)), size=SIZE, **options)


def assert_sound(model: nn.Module, report: SlimReport) -> None:
    """The report is true and the model runs, on odd sizes and in training too."""
    assert report.channels == channels_of(model)
    assert report.macs_after == count_macs(model, *SIZE)
    assert report.parameters_after == count_parameters(model)
    assert logits(model.eval(), torch.rand(1, 3, 17, 13)).shape == (1, 5, 17, 13)
    logits(model.train(), torch.rand(2, 3, 64, 64)).square().mean().backward()
    if not isinstance(model, FastSCNN) or not len(model.auxiliary):
        assert all(p.grad is not None for p in model.parameters())
