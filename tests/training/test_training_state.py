"""A training that is saved goes on exactly, and what is no state of it is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from tiny_training import NORMALISATION, options, rectangles, same, state_of, tiny

from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.state import StateError
from dance_ondevice.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")


@pytest.fixture
def samples(tmp_path: Path) -> list[TrainingSample]:
    return [rectangles(tmp_path, f"train{i}", i) for i in range(12)]


def test_the_same_training_gives_the_same_weights_whatever_the_global_state(
    samples: list[TrainingSample],
) -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = tiny()
        before = torch.random.get_rng_state()
        list(Trainer(model, samples, options(), NORMALISATION))
        assert torch.equal(torch.random.get_rng_state(), before)
        results.append(state_of(model))
    assert same(*results)
    other = tiny()
    list(Trainer(other, samples, options(seed=1), NORMALISATION))
    assert not same(results[0], state_of(other))


@pytest.mark.parametrize("killed_at", [0, 1, 3, 5, 6])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resuming_equals_never_having_stopped(
    tmp_path: Path, samples: list[TrainingSample], killed_at: int, precision: str
) -> None:
    chosen = options(precision=precision)
    whole = tiny()
    expected = [report.loss for report in Trainer(whole, samples, chosen, NORMALISATION)]

    first = Trainer(tiny(), samples, chosen, NORMALISATION)
    losses = [report.loss for report in islice(first, killed_at)]
    first.save_state(tmp_path / "state")

    model = tiny(seed=9)
    second = Trainer(model, samples, chosen, NORMALISATION)
    second.load_state(tmp_path / "state")
    reports = list(second)
    assert losses + [report.loss for report in reports] == expected
    assert same(state_of(model), state_of(whole))
    if reports:
        assert reports[-1].samples_seen == 4 * chosen.steps


def test_iterating_again_goes_on(samples: list[TrainingSample]) -> None:
    whole, stopped = tiny(), tiny()
    list(Trainer(whole, samples, options(), NORMALISATION))
    trainer = Trainer(stopped, samples, options(), NORMALISATION)
    for report in trainer:
        if report.step == 2:
            break
    assert [report.step for report in trainer] == [3, 4, 5, 6]
    assert same(state_of(whole), state_of(stopped))


def test_state_is_replaced_and_old_files_go(tmp_path: Path, samples: list[TrainingSample]) -> None:
    trainer = Trainer(tiny(), samples, options(), NORMALISATION)
    trainer.save_state(tmp_path / "state")
    (tmp_path / "state" / ".state-1-0.safetensors.7.part").write_bytes(b"of a killed process")
    for _ in trainer:
        trainer.save_state(tmp_path / "state")
    assert len(list((tmp_path / "state").iterdir())) == 2


def test_state_of_another_training_is_refused(tmp_path: Path, samples: list[TrainingSample]) -> None:
    Trainer(tiny(), samples, options(), NORMALISATION).save_state(tmp_path)
    for trainer in (
        Trainer(tiny(), samples, options(seed=5), NORMALISATION),
        Trainer(tiny(), samples[1:], options(), NORMALISATION),
        Trainer(tiny(), [replace(s, weight=2.0) for s in samples], options(), NORMALISATION),
        Trainer(tiny(auxiliary=False), samples, options(), NORMALISATION),
    ):
        with pytest.raises(StateError, match="start afresh"):
            trainer.load_state(tmp_path)


@pytest.mark.parametrize(
    "damage", ["nothing there", "cut tensors", "other tensors", "no tensors", "not json"]
)
def test_damaged_state_is_refused(tmp_path: Path, samples: list[TrainingSample], damage: str) -> None:
    trainer = Trainer(tiny(), samples, options(), NORMALISATION)
    if damage != "nothing there":
        trainer.save_state(tmp_path / "state")
        (tensors,) = (tmp_path / "state").glob("*.safetensors")
        if damage == "cut tensors":
            tensors.write_bytes(tensors.read_bytes()[:-10])
        elif damage == "other tensors":
            tensors.write_bytes(b"\0" + tensors.read_bytes()[1:])
        elif damage == "no tensors":
            tensors.unlink()
        else:
            (tmp_path / "state" / "state.json").write_text("{")
    model_before = state_of(trainer.model)
    with pytest.raises(StateError, match="state"):
        trainer.load_state(tmp_path / "state")
    assert same(model_before, state_of(trainer.model))
