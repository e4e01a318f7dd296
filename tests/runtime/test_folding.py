from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.models.layers import ConvBNReLU, DSConv, InvertedResidual, PyramidPooling
from dance_ondevice.runtime.folding import Folded

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")


def stir(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.1, 3.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)


def network() -> nn.Module:
    model = nn.Sequential(
        ConvBNReLU(3, 8, stride=2), DSConv(8, 8), InvertedResidual(8, 8), PyramidPooling(8, 8)
    )
    stir(model)
    return model.eval().to(memory_format=torch.channels_last)


@torch.inference_mode()
def test_the_copy_computes_the_same_without_norms() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    folded = Folded(model)
    x = torch.randn(1, 3, 40, 56)
    torch.testing.assert_close(folded.model(x), model(x), atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@torch.inference_mode()
def test_other_statistics_need_a_refresh_and_come_back_bit_for_bit() -> None:
    model = network()
    folded, own, x = Folded(model), conditions.capture(model), torch.randn(1, 3, 40, 56)
    base = folded.model(x).clone()
    stir(model)
    folded.refresh()
    torch.testing.assert_close(folded.model(x), model(x), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(folded.model(x), base, atol=1e-2)
    other = copy.deepcopy(model)
    conditions.apply(model, own)
    folded.refresh()
    torch.testing.assert_close(folded.model(x), model(x), atol=1e-4, rtol=1e-4)
    assert other is not model


def test_a_model_of_other_layers_runs_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    folded = Folded(model)
    folded.refresh()
    assert folded.model is model
