from __future__ import annotations

import pytest
import torch
from torch import nn

from dance_ondevice.models.bisenetv2 import BiSeNetV2, ContextEmbedding, GatherExpansion, GuidedAggregation
from dance_ondevice.models.cost import count_macs, count_parameters

SMALL = {
    "detail": (8, 8, 16),
    "semantic": (8, 8, 16, 16),
    "head": 16,
    "auxiliary_width": 8,
    "expansion": 2,
}


def test_the_branches_end_at_an_eighth_and_a_thirty_second():
    model = BiSeNetV2(5)
    x = torch.rand(2, 3, 64, 96)
    assert model.detail(x).shape == (2, 128, 8, 12)
    semantic, inner = model.semantic(x)
    assert semantic.shape == (2, 128, 2, 3)
    expected = [(2, 16, 16, 24), (2, 32, 8, 12), (2, 64, 4, 6), (2, 128, 2, 3)]
    assert [tuple(features.shape) for features in inner] == expected


def test_gather_expansion_adds_its_input():
    for block in (GatherExpansion(6, 6), GatherExpansion(6, 8, stride=2)):
        block.eval()
        nn.init.zeros_(block.project.norm.weight)
        x = torch.rand(1, 6, 8, 8)
        assert torch.equal(block(x), block.shortcut(x).relu())
    assert len(GatherExpansion(6, 6).depthwise) == 1
    assert len(GatherExpansion(6, 6, stride=2).depthwise) == 2


def test_context_embedding_sees_the_whole_image():
    block = ContextEmbedding(6).eval()
    x = torch.rand(1, 6, 9, 9)
    elsewhere = x.clone()
    elsewhere[..., 8, 8] += 30.0
    assert not torch.allclose(block(x)[..., 0, 0], block(elsewhere)[..., 0, 0])


def test_each_branch_gates_the_other():
    fusion = GuidedAggregation(4, 6, 8).eval()
    detail, semantic = torch.randn(1, 4, 16, 24), torch.randn(1, 6, 4, 6)
    out = fusion(detail, semantic)
    assert out.shape == (1, 8, 16, 24)
    nn.init.constant_(fusion.semantic_fine.norm.bias, -200.0)  # the guide closes the fine path
    nn.init.zeros_(fusion.detail_coarse.norm.weight)  # and nothing is left to gate on the coarse one
    assert torch.equal(fusion(detail, semantic), torch.zeros_like(out))


def test_the_booster_speaks_in_training_only_and_costs_inference_nothing():
    helped, plain = BiSeNetV2(5, **SMALL), BiSeNetV2(5, **SMALL, auxiliary=False)
    x = torch.rand(2, 3, 64, 64)
    found = helped.train()(x)
    assert isinstance(found, tuple)
    assert [tuple(head.shape[:2]) for head in found] == [(2, 5)] * 5
    assert [head.shape[2] for head in found] == [8, 16, 8, 4, 2]
    assert isinstance(helped.eval()(x), torch.Tensor)
    assert isinstance(plain.train()(x), torch.Tensor)
    assert count_parameters(helped) == count_parameters(plain)
    assert count_macs(helped, 64, 64) == count_macs(plain, 64, 64)


def test_multi_scale_groups_name_the_branches():
    model = BiSeNetV2(5, **SMALL)
    groups = model.multi_scale_groups()
    assert {name: [model.get_submodule(m) for m in modules] for name, modules in groups.items()} == {
        "detail branch": [model.detail],
        "semantic branch": [model.semantic.stem, model.semantic.stages, model.semantic.context.fuse],
        "context embedding": [model.semantic.context.norm, model.semantic.context.context],
    }


@pytest.mark.parametrize("wrong", [{"detail": (8, 8)}, {"semantic": (8, 8, 8)}, {"head": 0}])
def test_impossible_widths_are_refused(wrong: dict[str, object]):
    with pytest.raises(ValueError, match=r"at least 1|takes \d numbers"):
        BiSeNetV2(5, **{**SMALL, **wrong})
