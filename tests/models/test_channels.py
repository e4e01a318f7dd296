from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dance_ondevice.models.channels import (
    channels_of,
    keep_channels,
    layer_channels,
    remember_widths,
    set_channels,
    shapes_for,
    widths_built_with,
)


def layers() -> list[nn.Module]:
    return [
        nn.Conv2d(6, 8, 3),
        nn.Conv2d(6, 8, 1, bias=False),
        nn.ConvTranspose2d(6, 8, 2),
        nn.Linear(6, 8),
    ]


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: type(layer).__name__)
def test_what_is_kept_computes_as_before(layer: nn.Module):
    shape = (2, 6) if isinstance(layer, nn.Linear) else (2, 6, 5, 5)
    x = torch.randn(shape)
    inputs, outputs = [0, 2, 3], [1, 6, 7]
    x[:, [1, 4, 5]] = 0.0  # removed inputs count for nothing when they are zero
    expected = layer(x)[:, outputs]
    keep_channels(layer, inputs, outputs)
    assert layer_channels(layer) == (3, 3, 1)
    assert torch.allclose(layer(x[:, inputs]), expected, atol=1e-6)


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: type(layer).__name__)
def test_one_side_can_stay_whole(layer: nn.Module):
    other = copy.deepcopy(layer)
    keep_channels(layer, None, [0, 1])
    keep_channels(other, [0, 1], None)
    assert layer_channels(layer) == (6, 2, 1)
    assert layer_channels(other) == (2, 8, 1)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6), nn.BatchNorm2d(6, affine=False), nn.PReLU(6)],
    ids=["depthwise", "norm", "norm without scales", "prelu"],
)
def test_channelwise_layers_keep_both_sides(layer: nn.Module):
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.dim():
            nn.init.uniform_(tensor, 0.5, 1.5)
    layer.eval()
    x = torch.randn(2, 6, 5, 5)
    kept = [1, 2, 5]
    expected = layer(x)[:, kept]
    keep_channels(layer, None, kept)
    assert layer_channels(layer)[:2] == (3, 3)
    assert torch.allclose(layer(x[:, kept]), expected, atol=1e-6)


def test_frozen_and_channels_last_weights_stay_so():
    layer = nn.Conv2d(6, 8, 3).requires_grad_(False).to(memory_format=torch.channels_last)
    keep_channels(layer, [0, 1, 2], [0, 1])
    assert not layer.weight.requires_grad
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("layer", "channels"),
    [
        (nn.Conv2d(6, 8, 3), (2, 4, 1)),
        (nn.ConvTranspose2d(6, 8, 3, bias=False), (2, 4, 1)),
        (nn.Conv2d(6, 6, 3, groups=6), (4, 4, 4)),
        (nn.Linear(6, 8), (3, 1, 1)),
        (nn.BatchNorm2d(6), (2, 2, 1)),
        (nn.PReLU(6), (2, 2, 1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_layer_can_be_rebuilt_with_other_channels(layer: nn.Module, channels: tuple[int, int, int]):
    expected = shapes_for(layer, channels)
    set_channels(layer, channels)
    assert layer_channels(layer) == channels
    assert {name: tuple(t.shape) for name, t in layer.state_dict().items()} == expected
    shape = (2, channels[0]) if isinstance(layer, nn.Linear) else (2, channels[0], 5, 5)
    assert layer(torch.randn(shape)).shape[1] == channels[1]


@pytest.mark.parametrize(
    ("layer", "channels"),
    [
        (nn.Conv2d(6, 6, 3, groups=6), (4, 5, 4)),
        (nn.Conv2d(6, 6, 3, groups=6), (4, 4, 1)),
        (nn.Conv2d(6, 6, 3, groups=2), (4, 5, 2)),
        (nn.Conv2d(6, 6, 3), (4, 4, 2)),
        (nn.BatchNorm2d(6), (4, 5, 1)),
    ],
)
def test_impossible_channels_are_refused(layer: nn.Module, channels: tuple[int, int, int]):
    with pytest.raises(ValueError, match="cannot have"):
        set_channels(layer, channels)


def test_channels_of_lists_what_has_channels():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.GroupNorm(2, 8), nn.BatchNorm2d(8), nn.PReLU())
    assert channels_of(model) == {"0": (3, 8, 1), "3": (8, 8, 1)}


def test_a_model_remembers_what_it_was_built_with():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1))
    assert widths_built_with(model)["0"] == (3, 8, 1)
    remember_widths(model)
    keep_channels(model[0], None, [0, 1])
    keep_channels(model[1], [0, 1], None)
    remember_widths(model)
    assert widths_built_with(copy.deepcopy(model)) == {"0": (3, 8, 1), "1": (8, 4, 1)}
    assert set(model.state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}
