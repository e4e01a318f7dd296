from __future__ import annotations

import pytest
import torch
from torch import nn

from dance_ondevice.models.deeplabv3plus import ASPP, Decoder, DeepLabV3Plus, ImagePooling, MobileNetV2

SMALL = {
    "stem": 8,
    "widths": (8, 8, 8, 16, 16, 16, 24),
    "repeats": (1, 1, 1, 1, 1, 2, 1),
    "pyramid": 16,
    "low_level": 8,
    "decoder": (16, 16),
}


def test_the_encoder_stops_at_a_sixteenth_and_dilates_instead():
    encoder = MobileNetV2(32, (16, 24, 32, 64, 96, 160, 320), (1, 2, 3, 4, 3, 3, 1))
    early, deep = encoder(torch.rand(1, 3, 64, 96))
    assert (early.shape, deep.shape) == ((1, 24, 16, 24), (1, 320, 4, 6))
    dilations = [block.depthwise.conv.dilation[0] for stage in encoder.stages for block in stage]
    assert dilations == [1] * 14 + [2, 2, 2]
    assert isinstance(encoder.stages[0][0].expand, nn.Identity)


def test_the_pyramids_branches_reach_as_far_as_their_dilation():
    pyramid = ASPP(4, 4, (2, 5), separable=True)
    x = torch.zeros(1, 4, 31, 31, requires_grad=True)
    for branch, reach in zip(pyramid.branches, (2, 5), strict=True):
        nn.init.ones_(branch[0].conv.weight)
        (seen,) = torch.autograd.grad(branch[0].conv(x)[0, 0, 15, 15], x)
        rows = seen[0, 0].sum(dim=1).nonzero().flatten().tolist()
        assert rows == [15 - reach, 15, 15 + reach]


def test_image_pooling_spreads_the_mean():
    pooling = ImagePooling(4, 6).eval()
    out = pooling(torch.rand(2, 4, 5, 7))
    assert out.shape == (2, 6, 5, 7)
    assert torch.allclose(out, out[..., :1, :1].expand_as(out), atol=1e-6)


def test_a_separable_decoder_is_the_papers_on_the_joined_features():
    decoder = Decoder(6, 4, (8,), separable=True).eval()
    deep, early = torch.randn(1, 6, 8, 8), torch.randn(1, 4, 8, 8)
    joined = nn.Conv2d(10, 10, 3, padding=1, groups=10, bias=False)
    with torch.no_grad():
        joined.weight.copy_(torch.cat([decoder.filter_deep.conv.weight, decoder.filter_early.conv.weight]))
        filtered = joined(torch.cat([deep, early], dim=1)) / (1 + 1e-5) ** 0.5
        assert torch.allclose(decoder(deep, early), decoder.refine(filtered.relu()), atol=1e-6)


def test_separable_convolutions_are_a_choice():
    plain = DeepLabV3Plus(5, **SMALL, separable=False)
    assert not any(
        isinstance(m, nn.Conv2d) and m.groups > 1 for m in [*plain.aspp.modules(), *plain.decoder.modules()]
    )
    assert plain.eval()(torch.rand(1, 3, 40, 48)).shape == (1, 5, 10, 12)


def test_multi_scale_groups_name_the_pyramids_branches():
    model = DeepLabV3Plus(5, **SMALL, rates=(3, 7))
    groups = model.multi_scale_groups()
    assert set(groups) == {"dilation 3", "dilation 7", "image pooling"}
    assert model.get_submodule(groups["dilation 7"][0])[0].conv.dilation == (7, 7)
    assert model.get_submodule(groups["image pooling"][0]) is model.aspp.pooling


@pytest.mark.parametrize(
    "wrong",
    [{"widths": (8, 8)}, {"repeats": (1,) * 6}, {"rates": (0,)}, {"pyramid": 0}, {"decoder": ()}],
)
def test_impossible_widths_are_refused(wrong: dict[str, object]):
    with pytest.raises(ValueError, match=r"at least 1|seven numbers|at least one number"):
        DeepLabV3Plus(5, **{**SMALL, **wrong})
