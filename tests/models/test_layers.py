from __future__ import annotations

import pytest
import torch
from torch import nn

from dance_ondevice.models.layers import (
    BasicBlock,
    BatchNorm2d,
    ConvBNReLU,
    DSConv,
    InvertedResidual,
    PyramidPooling,
    SegmentationHead,
    resize,
)


def test_batch_norm_is_pytorchs_when_there_is_something_to_average():
    ours, theirs = BatchNorm2d(5), nn.BatchNorm2d(5)
    x = torch.randn(3, 5, 2, 2)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)


def test_batch_norm_trains_on_one_value_a_channel():
    norm = BatchNorm2d(5)
    norm.running_mean.fill_(2.0)
    x = torch.full((1, 5, 1, 1), 3.0, requires_grad=True)
    out = norm(x)
    out.sum().backward()
    assert out.flatten().tolist() == pytest.approx([1.0] * 5, abs=1e-4)
    assert norm.weight.grad is not None
    assert norm.running_mean.tolist() == [2.0] * 5


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 4), (8, 8)])
def test_blocks_keep_the_size_up_to_their_stride(stride: int, height: int, width: int):
    x = torch.randn(2, 6, height, width)
    expected = (2, 8, -(-height // stride), -(-width // stride))
    assert ConvBNReLU(6, 8, stride=stride)(x).shape == expected
    assert DSConv(6, 8, stride=stride)(x).shape == expected
    assert InvertedResidual(6, 8, stride=stride)(x).shape == expected
    assert BasicBlock(6, 8, stride=stride)(x).shape == expected


def test_dilation_keeps_the_size():
    assert ConvBNReLU(4, 4, dilation=4, groups=4)(torch.randn(2, 4, 5, 9)).shape == (2, 4, 5, 9)


def test_activation_clips_and_can_be_left_out():
    x = torch.randn(2, 3, 8, 8)
    assert ConvBNReLU(3, 8)(x).min() == 0
    assert ConvBNReLU(3, 8, activation=False)(x).min() < 0


def test_inverted_residual_adds_its_input_where_shapes_agree():
    block = InvertedResidual(6, 6).eval()
    x = torch.randn(1, 6, 4, 4)
    nn.init.zeros_(block.project.norm.weight)
    assert torch.equal(block(x), x)
    assert not InvertedResidual(6, 6, stride=2).residual
    assert not InvertedResidual(6, 8).residual


def test_inverted_residual_without_widening_has_no_expansion_and_can_be_dilated():
    block = InvertedResidual(6, 8, expansion=1, dilation=3)
    assert [m.kernel_size for m in block.modules() if isinstance(m, nn.Conv2d)] == [(3, 3), (1, 1)]
    assert block.depthwise.conv.dilation == (3, 3)
    assert block(torch.randn(2, 6, 5, 9)).shape == (2, 8, 5, 9)


def test_basic_block_adds_its_input():
    for block in (BasicBlock(6, 6, dilation=2), BasicBlock(6, 8, stride=2)):
        block.eval()
        nn.init.zeros_(block.second.norm.weight)
        x = torch.randn(1, 6, 7, 7)
        assert torch.equal(block(x), block.shortcut(x).relu())
    assert isinstance(BasicBlock(6, 6).shortcut, nn.Identity)


def test_segmentation_head_classifies_each_place():
    assert SegmentationHead(6, 8, 5)(torch.randn(2, 6, 4, 3)).shape == (2, 5, 4, 3)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 4)])
def test_pyramid_pools_any_size(size: tuple[int, int]):
    pyramid = PyramidPooling(8, 12)
    assert pyramid(torch.randn(1, 8, *size)).shape == (1, 12, *size)


def test_pyramid_sees_the_whole_image():
    pyramid = PyramidPooling(8, 12).eval()
    x = torch.randn(1, 8, 16, 16)
    elsewhere = x.clone()
    elsewhere[..., 12:, 12:] += 5.0
    assert not torch.allclose(pyramid(x)[..., 0, 0], pyramid(elsewhere)[..., 0, 0])


def test_resize_leaves_what_fits():
    x = torch.randn(1, 2, 3, 4)
    assert resize(x, (3, 4)) is x
    assert resize(x, (6, 9)).shape == (1, 2, 6, 9)
