"""Models of users, through everything that is done with a model."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dance_ondevice.images.codec import encode_png
from dance_ondevice.models.branches import branches_of, contexts_of
from dance_ondevice.models.card import ModelCard, Normalisation
from dance_ondevice.models.channels import channels_of, removed_channels
from dance_ondevice.models.checkpoint import load, save
from dance_ondevice.models.cost import count_macs
from dance_ondevice.models.forward import logits
from dance_ondevice.models.registry import build_from_factory
from dance_ondevice.slimming.groups import NotPrunable
from dance_ondevice.slimming.importance import TaylorImportance, scores_by
from dance_ondevice.slimming.slim import slim
from dance_ondevice.slimming.sparsity import add_sparsity_gradient, sparsity_factors
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.recalibration import recalibrate
from dance_ondevice.training.trainer import Trainer, TrainingOptions

CLASSES = 5
SIZE = (64, 96)
PLAIN = "unet_of_a_user:make_unet"
AWKWARD = "brought_models:make_awkward"
ATTENTIVE = "brought_models:make_attentive"
SHADOWED = "brought_models:make_shadowed"
UNUSUAL = "brought_models:make_unusual"

pytestmark = pytest.mark.slow
every_model = pytest.mark.parametrize("factory", [PLAIN, AWKWARD, ATTENTIVE, SHADOWED, UNUSUAL])


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def sample(tmp_path: Path) -> TrainingSample:
    random = np.random.default_rng(0)
    image, label = tmp_path / "image.png", tmp_path / "label.png"
    image.write_bytes(encode_png(random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)))
    label.write_bytes(encode_png(random.integers(0, CLASSES, SIZE, dtype=np.uint8)))
    return TrainingSample(image=image, label=label)


def train_one_step(model: nn.Module, sample: TrainingSample) -> None:
    options = TrainingOptions(
        steps=1, batch_size=2, num_classes=CLASSES, warmup=0.0, augment=False, precision="bf16"
    )
    before = copy.deepcopy(model.state_dict())
    trainer = Trainer(model, [sample, sample], options, Normalisation())
    assert [report.step for report in trainer] == [1]
    weights = {name for name, _ in model.named_parameters()}
    assert any(not torch.equal(before[name], t) for name, t in model.state_dict().items() if name in weights)


def assert_comes_back(model: nn.Module, factory: str, directory: Path) -> nn.Module:
    save(directory, model, ModelCard(factory=factory, classes=tuple("abcde"), macs_at=SIZE))
    found, card = load(directory)
    assert card.channels == channels_of(model)
    x = torch.rand(1, 3, 33, 20)
    layout = torch.channels_last  # which training puts its model in, and which decides on the kernels
    assert torch.equal(
        logits(found.to(memory_format=layout), x), logits(model.to(memory_format=layout).eval(), x)
    )
    return found


@every_model
def test_it_is_trained_saved_and_loaded_unslimmed(factory: str, sample: TrainingSample, tmp_path: Path):
    model = build_from_factory(factory, CLASSES, new=True)
    train_one_step(model, sample)
    train_one_step(assert_comes_back(model, factory, tmp_path / "model"), sample)


@every_model
@pytest.mark.parametrize("fraction", [0.85, 0.4])
def test_it_is_slimmed_or_says_that_it_cannot_be(
    factory: str, fraction: float, sample: TrainingSample, tmp_path: Path
):
    model = build_from_factory(factory, CLASSES)
    before = channels_of(model)
    target = round(fraction * count_macs(model, *SIZE))
    try:
        report = slim(model, target_macs=target, size=SIZE)
    except NotPrunable:
        assert factory in (ATTENTIVE, SHADOWED)
        assert channels_of(model) == before
    else:
        assert factory in (PLAIN, AWKWARD, UNUSUAL)
        assert report.macs_after == count_macs(model, *SIZE) < report.macs_before
    train_one_step(model, sample)
    train_one_step(assert_comes_back(model, factory, tmp_path / "model"), sample)


@pytest.mark.parametrize("factory", [PLAIN, AWKWARD])
def test_it_is_slimmed_by_gradients_pressed_and_recalibrated(factory: str, tmp_path: Path):
    model = build_from_factory(factory, CLASSES)
    assert branches_of(model) == contexts_of(model) == {}
    factors = sparsity_factors(model)
    taylor = TaylorImportance(model)
    logits(model.train(), torch.rand(2, 3, *SIZE)).square().mean().backward()
    taylor.accumulate()
    add_sparsity_gradient(model, 1e-4, factors)
    target = round(0.6 * count_macs(model, *SIZE))
    companion = copy.deepcopy(model)
    report = slim(
        model,
        target_macs=target,
        size=SIZE,
        round_to=1,
        importance=scores_by("combined", model, taylor),
        companions=[companion],
    )
    assert report.macs_after == pytest.approx(target, rel=0.03)
    same = dict(companion.named_parameters())  # get_parameter() trips over an attribute named modules
    assert all(torch.equal(p, same[name]) for name, p in model.named_parameters())
    assert set(removed_channels(model)) == set(channels_of(model))
    assert any(now < built for built, now in removed_channels(model).values())
    layers = sum(isinstance(module, nn.BatchNorm2d) for _, module in model.named_modules())
    assert recalibrate(model, [torch.rand(2, 3, *SIZE)]) == layers > 0
    assert_comes_back(model, factory, tmp_path / "model")


def test_a_model_that_cannot_be_slimmed_is_named():
    with pytest.raises(NotPrunable, match="Attentive has no group of channels that could be removed"):
        slim(build_from_factory(ATTENTIVE, CLASSES), target_macs=1, size=SIZE)
