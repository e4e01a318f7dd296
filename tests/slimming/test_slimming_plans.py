"""Random plans on every architecture: channels by any score, uneven shares, whole branches, a round trip."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import SMALL
from torch import nn

from dance_ondevice.fleet.describe import layers_of
from dance_ondevice.fleet.layers import gather
from dance_ondevice.models.branches import (
    branches_of,
    contexts_of,
    removable_branches,
    remove_branches,
    removed_branches,
)
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.channels import channels_of, has_channels, origin_of
from dance_ondevice.models.checkpoint import load, save
from dance_ondevice.models.cost import count_macs
from dance_ondevice.models.forward import logits, outputs
from dance_ondevice.models.registry import build
from dance_ondevice.policies.rounds.network_slimming import branch_shares
from dance_ondevice.slimming.importance import Importance, TaylorImportance, scores_by
from dance_ondevice.slimming.slim import slim
from dance_ondevice.training.recalibration import recalibrate

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread_one_seed")]

SIZE = (64, 96)

#: A step is a share of the MACs to slim to, at a scale of the data, by some score; or a branch to remove.
steps = st.one_of(
    st.tuples(st.floats(0.5, 0.95), st.floats(0.2, 1.0), st.sampled_from(["bn_scale", "taylor", "combined"])),
    st.integers(0, 3),
)


def slim_a_step(
    model: nn.Module, companion: nn.Module, fraction: float, scale: float, kind: Importance
) -> None:
    taylor = TaylorImportance(model)
    heads = outputs(model.train(), torch.rand(2, 3, *SIZE))
    torch.stack([head.square().mean() for head in heads]).sum().backward()
    taylor.accumulate()
    target = round(fraction * count_macs(model, *SIZE))
    report = slim(
        model,
        target_macs=target,
        size=SIZE,
        round_to=2,
        importance=scores_by(kind, model, taylor),
        shares=branch_shares(scale, contexts_of(model)),
        companions=[companion],
    )
    assert report.macs_after == count_macs(model, *SIZE)
    if report.reached:
        assert report.macs_after == pytest.approx(target, rel=0.03)
    else:  # as small as it gets
        assert min(out for name, (_, out, _) in report.channels.items()) <= 4


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(steps, min_size=1, max_size=3))
def test_any_plan_comes_back_bit_for_bit(name: str, plan: list[Any], tmp_path: Path) -> None:
    model = build(name, 5, SMALL[name])
    dense, companion, root = count_macs(model, *SIZE), copy.deepcopy(model), copy.deepcopy(model).state_dict()
    layers = layers_of(model)
    for step in plan:
        if isinstance(step, tuple):
            slim_a_step(model, companion, *step)
        elif removable := removable_branches(model):
            remove_branches(model, [removable[step % len(removable)]], companions=[companion])
    recalibrate(model, [torch.rand(2, 3, *SIZE), torch.rand(2, 3, *SIZE)])
    assert channels_of(companion) == channels_of(model)
    save(
        tmp_path,
        model,
        ModelCard(
            architecture=name,
            arguments=dict(SMALL[name]),
            classes=tuple("abcde"),
            macs_at=SIZE,
            unslimmed_macs=dense,
        ),
    )
    found, card = load(tmp_path)
    assert card.channels == channels_of(model)
    assert card.removed_branches == removed_branches(model) == removed_branches(found)
    assert branches_of(found) == branches_of(model)
    # The companion lost the same channels and learnt nothing: the root gives them back by their numbers.
    numbers = {name: origin_of(module) for name, module in found.named_modules() if has_channels(module)}
    assert numbers == {name: origin_of(companion.get_submodule(name)) for name in numbers}
    for tensor, value in companion.state_dict().items():
        layer, _, own = tensor.rpartition(".")
        sides = tuple(np.array(side) for side in numbers[layer])
        assert np.array_equal(gather(layers[layer], own, sides, root[tensor].numpy()), value.numpy()), tensor
    x = torch.rand(1, 3, 33, 20)
    assert torch.equal(logits(found, x), logits(model.eval(), x))
    for whole in (model, found):  # the heads of training too
        for module in whole.modules():
            module.training = not isinstance(module, (nn.BatchNorm2d, nn.Dropout))
    for ours, theirs in zip(outputs(model, x), outputs(found, x), strict=True):
        assert torch.equal(ours, theirs)
