from __future__ import annotations

import pytest
import torch

from dance_ondevice.models.cost import count_macs, count_parameters
from dance_ondevice.models.fastscnn import FastSCNN

SMALL = {"downsample": (8, 8, 16), "bottlenecks": (16, 16, 24), "repeats": (1, 1, 1), "fusion": 16}


def table_1_macs(height: int, width: int, num_classes: int) -> int:
    """MACs from the layer table of the paper (table 1), written out apart from the model."""

    def conv(factor: int, inputs: int, outputs: int, kernel: int = 1) -> int:
        return (height // factor) * (width // factor) * kernel * kernel * inputs * outputs

    def depthwise(factor: int, channels: int) -> int:
        return (height // factor) * (width // factor) * 9 * channels

    total = conv(2, 3, 32, 3)
    total += depthwise(4, 32) + conv(4, 32, 48)
    total += depthwise(8, 48) + conv(8, 48, 64)
    factor, inputs = 8, 64
    for outputs, repeats, stride in ((64, 3, 2), (96, 3, 2), (128, 3, 1)):
        for index in range(repeats):
            total += conv(factor, inputs, 6 * inputs)
            factor *= stride if index == 0 else 1
            total += depthwise(factor, 6 * inputs) + conv(factor, 6 * inputs, outputs)
            inputs = outputs
    total += sum(cells * cells * 128 * 32 for cells in (1, 2, 3, 6)) + conv(32, 256, 128)
    total += depthwise(8, 128) + conv(8, 128, 128) + conv(8, 64, 128)
    return total + 2 * (depthwise(8, 128) + conv(8, 128, 128)) + conv(8, 128, num_classes)


def test_parameters_are_the_papers():
    # 1.11 million in the paper's tables; it leaves some details open, such as which convolutions have a bias.
    assert count_parameters(FastSCNN(19)) == pytest.approx(1.11e6, rel=0.05)


def test_macs_are_those_of_the_papers_table():
    assert count_macs(FastSCNN(19), 256, 512) == table_1_macs(256, 512, 19)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 13), (64, 96)])
def test_logits_are_an_eighth_of_the_inputs_size(height: int, width: int):
    model = FastSCNN(5, **SMALL).eval()
    assert model(torch.rand(2, 3, height, width)).shape == (2, 5, -(-height // 8), -(-width // 8))


def test_one_image_can_be_trained_on():
    model = FastSCNN(5, **SMALL).train()
    model(torch.rand(1, 3, 32, 32)).square().mean().backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_auxiliary_heads_speak_in_training_only():
    model = FastSCNN(5, **SMALL, auxiliary=True)
    x = torch.rand(2, 3, 64, 64)
    found = model.train()(x)
    assert isinstance(found, tuple)
    assert [tuple(head.shape) for head in found] == [(2, 5, 8, 8), (2, 5, 8, 8), (2, 5, 2, 2)]
    sum(head.square().mean() for head in found).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert isinstance(model.eval()(x), torch.Tensor)


def test_without_auxiliary_heads_training_gives_logits_alone():
    model = FastSCNN(5, **SMALL).train()
    assert isinstance(model(torch.rand(2, 3, 64, 64)), torch.Tensor)
    assert list(model.auxiliary.parameters()) == []


def test_auxiliary_heads_cost_inference_nothing():
    plain, helped = FastSCNN(5, **SMALL), FastSCNN(5, **SMALL, auxiliary=True)
    assert count_parameters(helped) == count_parameters(plain)
    assert count_macs(helped, 64, 64) == count_macs(plain, 64, 64)
    assert sum(p.numel() for p in helped.parameters()) > sum(p.numel() for p in plain.parameters())


def test_multi_scale_groups_name_modules():
    model = FastSCNN(5, **SMALL, pyramid_bins=(1, 4))
    groups = model.multi_scale_groups()
    assert set(groups) == {"pyramid bin 1", "pyramid bin 4"}
    assert model.get_submodule(groups["pyramid bin 4"][0]) is model.pyramid.branches[1]


@pytest.mark.parametrize(
    "wrong", [{"downsample": (8, 8)}, {"repeats": (1, 0, 1)}, {"pyramid_bins": (0,)}, {"expansion": 0}]
)
def test_impossible_widths_are_refused(wrong: dict[str, object]):
    with pytest.raises(ValueError, match=r"at least 1|three numbers"):
        FastSCNN(5, **{**SMALL, **wrong})
