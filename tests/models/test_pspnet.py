from __future__ import annotations

import pytest
import torch

from dance_ondevice.models.cost import count_macs, count_parameters
from dance_ondevice.models.pspnet import DilatedResNet, PSPNet

SMALL = {"widths": (8, 16, 16, 32), "repeats": (1, 1, 1, 1)}


def test_the_encoder_stops_at_an_eighth_and_dilates_instead():
    encoder = DilatedResNet((4, 8, 16, 32), (1, 1, 2, 2))
    third, last = encoder(torch.rand(1, 3, 64, 96))
    assert (third.shape, last.shape) == ((1, 16, 8, 12), (1, 32, 8, 12))
    dilations = [block.second.conv.dilation[0] for stage in encoder.stages for block in stage]
    assert dilations == [1, 1, 2, 2, 4, 4]


def test_the_auxiliary_head_speaks_in_training_only_and_costs_inference_nothing():
    helped, plain = PSPNet(5, **SMALL), PSPNet(5, **SMALL, auxiliary=False)
    x = torch.rand(2, 3, 64, 64)
    found = helped.train()(x)
    assert isinstance(found, tuple)
    assert [tuple(head.shape) for head in found] == [(2, 5, 8, 8)] * 2
    assert isinstance(helped.eval()(x), torch.Tensor)
    assert isinstance(plain.train()(x), torch.Tensor)
    assert count_parameters(helped) == count_parameters(plain)
    assert count_macs(helped, 64, 64) == count_macs(plain, 64, 64)


def test_the_pyramid_sees_the_whole_image():
    model = PSPNet(5, **SMALL).eval()
    x = torch.rand(1, 3, 256, 256)
    elsewhere = x.clone()
    elsewhere[..., 240:, 240:] += 3.0
    with torch.no_grad():
        near = model.encoder(x)[1][..., :2, :2]
        assert torch.equal(near, model.encoder(elsewhere)[1][..., :2, :2])
        assert not torch.allclose(model(x)[..., :8, :8], model(elsewhere)[..., :8, :8], atol=1e-7)


def test_multi_scale_groups_name_the_pyramids_bins():
    model = PSPNet(5, **SMALL, pyramid_bins=(1, 4))
    groups = model.multi_scale_groups()
    assert set(groups) == {"pyramid bin 1", "pyramid bin 4"}
    assert model.get_submodule(groups["pyramid bin 4"][0]) is model.pyramid.branches[1]


@pytest.mark.parametrize("wrong", [{"widths": (8, 8)}, {"repeats": (1, 1, 1, 0)}, {"pyramid_bins": (0,)}])
def test_impossible_widths_are_refused(wrong: dict[str, object]):
    with pytest.raises(ValueError, match=r"at least 1|four numbers"):
        PSPNet(5, **{**SMALL, **wrong})
