from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.fastscnn import FastSCNN
from dance_ondevice.models.forward import logits
from dance_ondevice.models.registry import (
    ARCHITECTURES,
    FactoryError,
    ModelError,
    UnknownArchitecture,
    build,
    build_from_factory,
)


def test_every_architecture_builds_and_segments():
    for name in ARCHITECTURES:
        model = build(name, 3).eval()
        assert logits(model, torch.rand(1, 3, 64, 64)).shape == (1, 3, 64, 64)


def test_arguments_reach_the_architecture():
    model = build("fastscnn", 3, {"downsample": [8, 8, 16], "auxiliary": True})
    assert isinstance(model, FastSCNN)
    assert model.downsample[0].conv.out_channels == 8
    assert len(model.auxiliary) == 2


def test_an_unknown_architecture_is_told_the_known_ones():
    with pytest.raises(UnknownArchitecture, match=r"'fastscn'.*fastscnn"):
        build("fastscn", 3)


def test_an_unknown_argument_is_named():
    with pytest.raises(ModelError, match="wdth"):
        build("fastscnn", 3, {"wdth": 3})


@pytest.mark.parametrize("count", [0, 256])
def test_class_counts_that_labels_cannot_hold_are_refused(count: int):
    with pytest.raises(ModelError, match=str(count)):
        build("fastscnn", count)


def test_a_users_model_is_built(unet_factory: str):
    model = build_from_factory(unet_factory, 7)
    assert model.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 7, 32, 32)
    assert build_from_factory("unet_of_a_user:make_quarter_size", 7).training


@pytest.mark.parametrize(
    ("factory", "named"),
    [
        ("make_unet", "package.module:callable"),
        ("no_such_module_anywhere:make", "cannot import"),
        ("unet_of_a_user:nothing", "has no nothing"),
        ("unet_of_a_user:NOT_CALLABLE", "cannot be called"),
        ("unet_of_a_user:make_number", "torch.nn.Module, found int"),
        ("unet_of_a_user:make_raising", "no weights here"),
        ("unet_of_a_user:make_broken", "64 x 64"),
        ("unet_of_a_user:make_wrong_classes", "8 classes, 7 were"),
        ("unet_of_a_user:make_nothing_to_train", "no parameters"),
    ],
)
def test_what_is_wrong_with_a_factory_is_said(unet_factory: str, factory: str, named: str):
    with pytest.raises(FactoryError, match=named):
        build_from_factory(factory, 7)


@pytest.mark.parametrize(
    ("factory", "named"),
    [
        ("unet_of_a_user:make_bounded", r"softmax \(or sigmoid\)"),
        ("unet_of_a_user:make_fresh_probabilities", r"softmax \(or sigmoid\)"),
        ("unet_of_a_user:make_keeping_notes", "_extra_state in its state, which is no tensor"),
        ("unet_of_a_user:make_frozen", "in training mode"),
        ("unet_of_a_user:make_giving_its_loss", "with images alone: AssertionError: where are the labels"),
        ("unet_of_a_user:make_multiples_of_64", "on images of 160 x 96"),
    ],
)
def test_what_no_round_could_train_is_refused_as_it_comes_in(unet_factory: str, factory: str, named: str):
    build_from_factory(factory, 7)  # what was stored once still loads
    with pytest.raises(FactoryError, match=named):
        build_from_factory(factory, 7, new=True)


@pytest.mark.parametrize("factory", ["make_unet", "make_fresh_head"])
def test_the_trial_of_a_new_model_leaves_no_trace(unet_factory: str, factory: str):
    torch.manual_seed(0)
    tried = build_from_factory(f"unet_of_a_user:{factory}", 7, new=True)
    torch.manual_seed(0)
    fresh = build_from_factory(f"unet_of_a_user:{factory}", 7)
    assert all(
        torch.equal(a, b)
        for a, b in zip(tried.state_dict().values(), fresh.state_dict().values(), strict=True)
    )
    assert all(p.grad is None for p in tried.parameters())
    assert tried.training


@pytest.mark.parametrize(
    ("factory", "named", "tensors"),
    [
        ("unet_of_a_user:make_probabilities", "leave its softmax", {"0.weight", "0.bias"}),
        ("unet_of_a_user:make_parallel", "return the model itself", {"module.weight", "module.bias"}),
    ],
)
def test_what_hardly_learns_is_refused_as_it_comes_in_and_still_loads_where_it_has_learnt(
    unet_factory: str, tmp_path: Path, factory: str, named: str, tensors: set[str]
) -> None:
    with pytest.raises(FactoryError, match=named):
        build_from_factory(factory, 7, new=True)
    model = build_from_factory(factory, 7)
    card = ModelCard(factory=factory, classes=tuple("abcdefg"), macs_at=(64, 64))
    checkpoint.save(tmp_path, model, card)
    assert set(checkpoint.load(tmp_path)[0].state_dict()) == tensors


def test_names_are_known_without_torch():
    code = "import sys; import dance_ondevice.models.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
