"""Co-optimised training: stages follow one another as one training, and a killed one goes on exactly."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dance_ondevice.images.codec import encode_jpeg, encode_png
from dance_ondevice.models.branches import removed_branches
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.cost import count_macs
from dance_ondevice.models.registry import build
from dance_ondevice.slimming.importance import TaylorImportance, branch_scores
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.cooptimisation import CoTrainer, freeze
from dance_ondevice.training.moments import slim_with_moments
from dance_ondevice.training.stages import BranchPlan, EpochDone, Stage
from dance_ondevice.training.state import StateError
from dance_ondevice.training.trainer import Trainer, TrainingOptions

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")

SIZE = (64, 64)
CARD = ModelCard(classes=("a", "b", "c"), architecture="fastscnn", macs_at=SIZE, arguments={})
OPTIONS = TrainingOptions(steps=1, batch_size=2, num_classes=3, size=SIZE, learning_rate=2e-3)
STAGES = (
    Stage(epochs=2, window=0.5, zoom=(0.5, 1.0), sparsity=1e-3),
    Stage(epochs=1, macs_fraction=0.6, choice="half", importance="combined"),
    Stage(epochs=1, macs_fraction=0.6),
)


@pytest.fixture
def samples(tmp_path: Path) -> list[TrainingSample]:
    rng = np.random.default_rng(0)
    made = []
    for index in range(4):
        label = rng.integers(0, 3, (8, 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        image = np.stack([label * 80 + 20, 200 - label * 60, label * 30], axis=-1).astype(np.uint8)
        sample = TrainingSample(tmp_path / f"{index}.jpg", tmp_path / f"{index}.png")
        sample.image.write_bytes(encode_jpeg(image))
        sample.label.write_bytes(encode_png(label))
        made.append(sample)
    return made


def small_model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(
            "fastscnn",
            3,
            {"downsample": (8, 12, 16), "bottlenecks": (16, 16, 24), "repeats": (1, 1, 1), "fusion": 24},
        ).eval()


CARD_SMALL = ModelCard(
    classes=("a", "b", "c"),
    architecture="fastscnn",
    macs_at=SIZE,
    arguments={"downsample": [8, 12, 16], "bottlenecks": [16, 16, 24], "repeats": [1, 1, 1], "fusion": 24},
)


@pytest.fixture
def trainer_of(samples: list[TrainingSample]) -> Callable[[Sequence[Stage]], CoTrainer]:
    def choose(choice: str, model: nn.Module) -> Sequence[TrainingSample]:
        assert not model.training
        return samples if choice == "all" else samples[::2]

    def plan(model: nn.Module, taylor: TaylorImportance | None) -> BranchPlan:
        assert taylor is not None
        assert set(branch_scores(model, taylor)) == {f"pyramid bin {bins}" for bins in (1, 2, 3, 6)}
        return BranchPlan({"pyramid bin 1": 0.5, "pyramid bin 6": 2.0}, remove=("pyramid bin 6",))

    return lambda stages: CoTrainer(small_model(), CARD_SMALL, stages, choose, OPTIONS, plan_branches=plan)


@pytest.mark.slow
def test_stages_follow_one_another(trainer_of: Callable[[Sequence[Stage]], CoTrainer]) -> None:
    trainer = trainer_of(STAGES)
    done = list(trainer)
    assert [(d.stage, d.epoch, d.epochs) for d in done] == [(0, 1, 4), (0, 2, 4), (1, 3, 4), (2, 4, 4)]
    assert [d.samples_seen for d in done] == [4, 8, 10, 14]
    assert done[0].macs_fraction == 1.0
    assert done[-1].macs_fraction == pytest.approx(0.6, rel=0.03)
    assert count_macs(trainer.model, *SIZE) == trainer.card.macs
    assert removed_branches(trainer.model) == ("pyramid bin 6",)
    # An epoch of quarter windows costs a quarter of one at full size and width, that one 0.6 of it here.
    quarter, slimmed = done[1].macs - done[0].macs, done[3].macs - done[2].macs
    assert slimmed / quarter == pytest.approx(4 * 0.6, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_killed_training_goes_on_exactly(
    trainer_of: Callable[[Sequence[Stage]], CoTrainer], tmp_path: Path, killed_after: int
) -> None:
    whole = trainer_of(STAGES)
    expected = list(whole)
    first = trainer_of(STAGES)
    before: list[EpochDone] = []
    for done in islice(first, killed_after):
        before.append(done)
        first.save_state(tmp_path / "state")
    second = trainer_of(STAGES)
    second.load_state(tmp_path / "state")
    assert before + list(second) == expected
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


@pytest.mark.slow
def test_a_state_of_nothing_is_refused(
    trainer_of: Callable[[Sequence[Stage]], CoTrainer], tmp_path: Path
) -> None:
    with pytest.raises(StateError, match="no saved training"):
        trainer_of(STAGES).load_state(tmp_path / "missing")
    first = trainer_of(STAGES)
    for _ in islice(first, 4):
        pass
    first.save_state(tmp_path / "state")
    with pytest.raises(StateError, match="more stages"):
        trainer_of(STAGES[:1]).load_state(tmp_path / "state")
    shutil.rmtree(tmp_path / "state" / "stage-2" / "trainer")
    with pytest.raises(StateError):
        trainer_of(STAGES).load_state(tmp_path / "state")


def test_moments_lose_the_channels_that_the_weights_lose(samples: list[TrainingSample]) -> None:
    model = small_model()
    options = TrainingOptions(steps=3, batch_size=2, num_classes=3, size=SIZE)
    trainer = Trainer(model, samples, options, CARD.normalisation)
    for _ in trainer:
        pass
    # A moment that is a function of its weight must still be that function of the weight that is left.
    moments = {
        name: {"step": torch.tensor(3.0), "exp_avg": 2 * p.detach(), "exp_avg_sq": p.detach() ** 2}
        for name, p in model.named_parameters()
    }
    macs = count_macs(model, *SIZE)
    left = slim_with_moments(model, moments, target_macs=macs // 2, size=SIZE)
    assert count_macs(model, *SIZE) == pytest.approx(macs // 2, rel=0.03)
    for name, parameter in model.named_parameters():
        assert torch.equal(left[name]["exp_avg"], 2 * parameter.detach()), name
        assert torch.equal(left[name]["exp_avg_sq"], parameter.detach() ** 2), name
        assert left[name]["step"] == 3
    assert trainer.moments()["classifier.3.weight"]["step"] == 3


def test_sparsity_presses_the_scales(samples: list[TrainingSample]) -> None:
    def scales_after(sparsity: float) -> float:
        model = small_model()
        stages = (Stage(epochs=4, sparsity=sparsity),)
        for _ in CoTrainer(model, CARD_SMALL, stages, lambda _choice, _model: samples, OPTIONS):
            pass
        norms = [m for m in model.get_submodule("bottlenecks").modules() if isinstance(m, nn.BatchNorm2d)]
        return sum(float(norm.weight.detach().abs().sum()) for norm in norms)

    assert scales_after(1.0) < scales_after(0.0)


def test_moments_of_another_shape_are_refused(samples: list[TrainingSample]) -> None:
    trainer = Trainer(small_model(), samples, OPTIONS, CARD.normalisation)
    name = "classifier.3.weight"
    with pytest.raises(ValueError, match=r"classifier\.3\.weight has shape \(1,\)"):
        trainer.adopt_moments({name: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(1)}})


def test_adopted_moments_are_copies(samples: list[TrainingSample]) -> None:
    first = Trainer(small_model(), samples, replace(OPTIONS, steps=2), CARD.normalisation)
    next(iter(first))
    moments = first.moments()
    before = {name: {key: x.clone() for key, x in state.items()} for name, state in moments.items()}
    second = Trainer(small_model(), samples, replace(OPTIONS, steps=1), CARD.normalisation)
    second.adopt_moments(moments)
    assert len(list(second)) == 1
    assert {int(state["step"]) for state in second.moments().values()} == {2}
    for name, state in moments.items():
        assert all(torch.equal(x, before[name][key]) for key, x in state.items()), name


def test_one_learning_rate_course_spans_the_stages() -> None:
    whole = TrainingOptions(steps=40, num_classes=3)
    parts = [
        TrainingOptions(steps=10, num_classes=3, span=(0.0, 0.25)),
        TrainingOptions(steps=20, num_classes=3, span=(0.25, 0.75)),
        TrainingOptions(steps=10, num_classes=3, span=(0.75, 1.0)),
    ]
    joined = [part.rate(step) for part in parts for step in range(part.steps)]
    assert joined == pytest.approx([whole.rate(step) for step in range(40)])
    with pytest.raises(ValueError, match="span"):
        TrainingOptions(steps=1, num_classes=3, span=(0.5, 0.5))


def test_frozen_layers_stay_as_they_are(
    samples: list[TrainingSample],
) -> None:
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stages = (Stage(epochs=1, frozen=("downsample",)),)
    for _ in CoTrainer(model, CARD_SMALL, stages, lambda _choice, _model: samples, OPTIONS):
        pass
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.endswith("running_mean") for name in changed)
    assert not any(name.startswith("downsample") for name in changed), "weights or statistics"
    with pytest.raises(ValueError, match="no submodule 'nose' to freeze; it has downsample"):
        freeze(model, ("nose",))


def test_fixed_statistics_stay_while_weights_learn(samples: list[TrainingSample]) -> None:
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stages = (Stage(epochs=1, fixed_statistics=True),)
    for _ in CoTrainer(model, CARD_SMALL, stages, lambda _choice, _model: samples, OPTIONS):
        pass
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert not any("running" in name for name in changed)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"macs_fraction": 0.0}, {"window": 1.5}])
def test_an_impossible_stage_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Stage(**{"epochs": 1, **wrong})
