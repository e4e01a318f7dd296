"""Whole branches leave a model: their work, their weights, and what others read from them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from dance_ondevice.models.branches import (
    BranchError,
    branches_of,
    contexts_of,
    removable_branches,
    remove_branches,
    removed_branches,
)
from dance_ondevice.models.card import CARD_FILE, CheckpointError, ModelCard
from dance_ondevice.models.channels import channels_of, removed_channels
from dance_ondevice.models.checkpoint import load, save
from dance_ondevice.models.cost import count_macs, layer_macs
from dance_ondevice.models.forward import logits
from dance_ondevice.models.registry import build
from dance_ondevice.slimming.slim import slim

SIZE = (64, 96)
#: Branches to take out one after the other, with the layers that read them, of small models.
CASES = {
    "fastscnn": (
        {"downsample": [8, 8, 16], "bottlenecks": [16, 16, 24], "repeats": [1, 1, 1], "fusion": 16},
        ("pyramid bin 2", "pyramid bin 6", "pyramid bin 1", "pyramid bin 3"),
        "pyramid.project.conv",
    ),
    "deeplabv3plus": (
        {"stem": 8, "widths": [8, 8, 8, 8, 16, 16, 24], "repeats": [1] * 7, "pyramid": 16, "decoder": [16]},
        ("dilation 12", "image pooling", "dilation 6", "dilation 18"),
        "aspp.project.conv",
    ),
    "pspnet": (
        {"widths": [8, 16, 16, 32], "repeats": [1, 1, 1, 1]},
        ("pyramid bin 6", "pyramid bin 1", "pyramid bin 2", "pyramid bin 3"),
        "pyramid.project.conv",
    ),
    "bisenetv2": (
        {"detail": [8, 8, 16], "semantic": [8, 8, 16, 32], "head": 16, "auxiliary_width": 8, "expansion": 2},
        ("context embedding",),
        "",
    ),
    "hrnet": (
        {"stem": 8, "bottlenecks": 1, "widths": [8, 8, 16, 16], "modules": [1, 2, 1], "blocks": 1},
        ("stream 1/32", "stream 1/16", "stream 1/8"),
        "head.0.conv",
    ),
    "espnetv2": (
        {"widths": [16, 32, 48, 80], "repeats": [1, 1], "decoder": [16, 12, 8], "pyramid": 6},
        ("dilation 4", "scale 2", "scale 0.1", "dilation 2", "scale 1", "dilation 3", "scale 0.5"),
        "",
    ),
}
every_case = pytest.mark.parametrize("name", CASES)


def small(name: str) -> nn.Module:
    model = build(name, 5, CASES[name][0])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics and scales that a mistake would show in
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def silence(model: nn.Module, branch: str) -> None:
    """Make what a branch writes zero: its last normalisations say nothing."""
    for name in branches_of(model)[branch]:
        for module in model.get_submodule(name).modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)


@every_case
def test_every_branch_goes_one_after_the_other(name: str) -> None:
    model, wanted = small(name), CASES[name][1]
    whole = removed_channels(model)
    for count, branch in enumerate(wanted, start=1):
        modules = branches_of(model)[branch]
        before = layer_macs(model, *SIZE)
        assert branch in removable_branches(model)
        remove_branches(model, [branch])
        after = layer_macs(model, *SIZE)
        gone = {layer for layer in before if f"{layer}.".startswith(tuple(f"{m}." for m in modules))}
        assert gone
        assert after.keys() == before.keys() - gone
        assert all(after[layer] <= before[layer] for layer in after)
        assert not any(n.startswith(tuple(f"{m}." for m in modules)) for n in model.state_dict())
        assert removed_branches(model) == wanted[:count]
        assert branch not in branches_of(model)
        assert contexts_of(model).keys() == branches_of(model).keys()
        assert logits(model, torch.rand(1, 3, 17, 13)).shape == (1, 5, 17, 13)
    assert removable_branches(model) == ()
    now = removed_channels(model)
    assert now.keys() == whole.keys()
    assert {layer for layer, (_, out) in now.items() if out == 0} == now.keys() - channels_of(model).keys()
    assert all(built == whole[layer][1] for layer, (built, _) in now.items())
    logits(model.train(), torch.rand(2, 3, 64, 64)).square().mean().backward()


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("hrnet", "espnetv2")])
def test_a_branch_that_says_nothing_is_not_missed(name: str) -> None:
    model, x = small(name), torch.rand(2, 3, 64, 96)
    for branch in CASES[name][1]:
        silence(model, branch)
        with torch.no_grad():
            before = logits(model, x)
            remove_branches(model, [branch])
            assert before.std() > 1e-3
            assert torch.allclose(logits(model, x), before, atol=1e-5)


def test_the_streams_that_stay_do_not_miss_a_silent_one() -> None:
    """The head reads it as well: its last normalised layer feeds a ReLU, so silence is zero there too."""
    model, x = small("hrnet"), torch.rand(2, 3, 64, 96)
    for branch in CASES["hrnet"][1]:
        silence(model, branch)
        with torch.no_grad():
            before = logits(model, x)
            remove_branches(model, [branch])
            assert before.std() > 1e-3
            assert torch.allclose(logits(model, x), before, atol=1e-5)


@every_case
def test_what_joins_the_branches_keeps_the_channels_of_the_others(name: str) -> None:
    model, (_, wanted, reader) = small(name), CASES[name]
    companion = copy.deepcopy(model)
    if reader:
        weight = companion.get_submodule(reader).weight
        columns = torch.arange(weight.shape[1]).view(1, -1, 1, 1).expand_as(weight).float()
        with torch.no_grad():
            weight.copy_(columns)
    remove_branches(model, wanted[:1], companions=[companion])
    assert channels_of(companion) == channels_of(model)
    assert removed_branches(companion) == wanted[:1]
    if reader:
        kept = companion.get_submodule(reader).weight[0, :, 0, 0].long()
        original = small(name).get_submodule(reader).weight
        assert kept.numel() < original.shape[1]
        assert kept.tolist() == sorted(set(kept.tolist()))


@pytest.mark.slow
@every_case
def test_branches_of_a_model_that_was_slimmed_unevenly_can_go_too(name: str) -> None:
    model = small(name)
    shares = {branch: 0.3 + index for index, branch in enumerate(branches_of(model))}
    slim(model, target_macs=round(0.6 * count_macs(model, *SIZE)), size=SIZE, round_to=1, shares=shares)
    for branch in CASES[name][1]:
        remove_branches(model, [branch])
        assert logits(model, torch.rand(1, 3, 17, 13)).shape == (1, 5, 17, 13)
    slim(model, target_macs=round(0.7 * count_macs(model, *SIZE)), size=SIZE, round_to=1)
    logits(model.train(), torch.rand(2, 3, 64, 64)).square().mean().backward()


@every_case
def test_it_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    model, (arguments, wanted, _) = small(name), CASES[name]
    remove_branches(model, wanted[:2])
    card = ModelCard(architecture=name, arguments=arguments, classes=tuple("abcde"), macs_at=SIZE)
    assert save(tmp_path, model, card).removed_branches == wanted[:2]
    found, read = load(tmp_path)
    assert read.removed_branches == removed_branches(found) == wanted[:2]
    x = torch.rand(1, 3, 33, 20)
    assert torch.equal(logits(found, x), logits(model, x))
    assert removed_channels(found) == removed_channels(model)
    remove_branches(found, wanted[2:])
    assert removed_branches(found) == wanted


def test_a_card_that_names_a_branch_which_is_not_there_is_refused(tmp_path: Path) -> None:
    arguments = CASES["fastscnn"][0]
    card = ModelCard(architecture="fastscnn", arguments=arguments, classes=tuple("abcde"), macs_at=SIZE)
    save(tmp_path, small("fastscnn"), card)
    file = tmp_path / CARD_FILE
    file.write_text(
        file.read_text().replace('"removed_branches": []', '"removed_branches": ["pyramid bin 5"]')
    )
    with pytest.raises(CheckpointError, match="no removable branch 'pyramid bin 5'"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "branch"),
    [
        ("fastscnn", "pyramid bin 5"),
        ("bisenetv2", "detail branch"),
        ("bisenetv2", "semantic branch"),
        ("hrnet", "stream 1/4"),
        ("hrnet", "stream 1/16"),
    ],
)
def test_what_cannot_be_left_out_is_said_with_what_can(name: str, branch: str) -> None:
    model = small(name)
    before = channels_of(model)
    with pytest.raises(
        BranchError, match=f"no removable branch '{branch}'; removable are: {CASES[name][1][0][:7]}"
    ):
        remove_branches(model, [branch])
    assert channels_of(model) == before


def test_a_model_that_names_none_has_none() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 1))
    assert branches_of(model) == contexts_of(model) == {}
    with pytest.raises(BranchError, match="removable are: none"):
        remove_branches(model, ["pyramid bin 1"])
