"""Rounds on labels by correction: what nobody spoke of stays as the live model serves it."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from condition_models import SIZE
from numpy.typing import NDArray
from test_condition_round import N, as_served, stored, work_order

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.counts import Counts, ScoreCard
from dance_ondevice.daemon.trainer import main
from dance_ondevice.daemon.trainer.holding import held, interpolations
from dance_ondevice.daemon.trainer.kinds import KINDS
from dance_ondevice.daemon.trainer.scores import costs_too_much
from dance_ondevice.daemon.trainer.serving import Kept, Serving, kept
from dance_ondevice.daemon.trainer.sift import sample_of
from dance_ondevice.images.codec import encode_png
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.forward import predict
from dance_ondevice.training.batches import read_image
from dance_ondevice.training.trainer import Trainer, TrainingOptions

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")


def a_corner_is_class(folder: Path, value: int, *, corrected: bool) -> tuple[jobs.JobSample, ...]:
    """Frames at dusk of which somebody said that their upper left corner is of one class."""
    label = np.full(SIZE, IGNORE, np.uint8)
    label[: SIZE[0] // 4, : SIZE[1] // 4] = value
    frames = stored(folder, 4, "dusk", "c1")
    for frame in frames:
        Path(frame.label).write_bytes(encode_png(label))
    return tuple(msgspec.structs.replace(frame, corrected=corrected) for frame in frames)


def changed(job: jobs.Job) -> float:
    """Share of the pixels outside the corner that the round gives another class than the live model does."""
    model, card = checkpoint.load(Path(job.live))
    kind = KINDS[job.kind_of](job, kept(Path(job.conditions), model), model, card)
    options = TrainingOptions(
        steps=job.steps, batch_size=4, num_classes=N, learning_rate=job.learning_rate, class_weighting=False
    )
    with kind.learning(model):
        samples = [sample_of(each) for each in job.train]
        for _ in Trainer(
            model, samples, options, card.normalisation, distillation=held(job, kind, card, "cpu")
        ):
            pass
        image = read_image(samples[0])
        now: NDArray[np.uint8] = predict(model, image, card.normalisation).mask
    before = as_served(Path(job.live), "c1" if job.condition else "", image).mask
    return float(np.mean((now != before)[SIZE[0] // 4 :]))


@pytest.mark.slow
def test_the_rest_of_a_corrected_frame_stays_as_its_condition_serves_it(tmp_path: Path) -> None:
    def job(*, corrected: bool) -> jobs.Job:
        frames = a_corner_is_class(tmp_path, 3, corrected=corrected)
        return work_order(tmp_path, train=frames, steps=30, learning_rate=0.1)

    forgot = changed(job(corrected=False))
    assert forgot > 0.05
    assert changed(job(corrected=True)) < 0.5 * forgot


def test_only_corrections_of_a_trained_model_are_held(tmp_path: Path) -> None:
    job = work_order(tmp_path, condition=None, train=a_corner_is_class(tmp_path, 3, corrected=True))
    model, card = checkpoint.load(Path(job.live))
    kind = KINDS["whole"](job, kept(Path(job.conditions), model), model, card)
    assert held(job, kind, card, "cpu") is not None
    noise: ModelCard = dataclasses.replace(card, training={"untrained": True})
    assert held(job, kind, noise, "cpu") is None
    imported = tuple(msgspec.structs.replace(each, corrected=False) for each in job.train)
    assert held(msgspec.structs.replace(job, train=imported), kind, card, "cpu") is None


def test_how_far_a_round_goes(tmp_path: Path) -> None:
    frames = a_corner_is_class(tmp_path, 3, corrected=True)
    whole = tuple(msgspec.structs.replace(each, corrected=False) for each in frames)
    order = work_order(tmp_path, condition=None, train=frames)
    model, card = checkpoint.load(Path(order.live))

    def shares(**changes: Any) -> tuple[float, ...]:
        job = msgspec.structs.replace(order, **changes)
        found = interpolations(job, card)
        assert len(found) <= job.most_candidates, "joules are set aside for so many"
        return found

    assert shares() == (0.5,)
    assert shares(rehearsal=whole) == (1.0,), "half of the frames have whole labels"
    assert shares(rehearsal=whole, max_condition_drop=0.02) == (1.0, 0.5)
    assert shares(target_macs=1000) == shares(steps=0) == (1.0,)
    slims = msgspec.structs.replace(order, target_macs=1000, max_condition_drop=0.02)
    assert slims.most_candidates == 1
    assert interpolations(order, dataclasses.replace(card, training={"untrained": True})) == (1.0,)

    kind = KINDS["whole"](order, kept(Path(order.conditions), model), model, card)
    before = copy.deepcopy(model.state_dict())
    with kind.learning(model), torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    for share in (0.5, 1.0):
        for name, value in kind.candidate(model, share).named_parameters():
            assert torch.allclose(value, before[name] + share), name


def test_what_costs_a_condition_more_than_is_allowed(tmp_path: Path) -> None:
    gate = tuple(
        jobs.JobSample(id=f"{light}-{number}", image="", label="", condition=light)
        for light in ("base", "c1")
        for number in range(2)
    )
    job = work_order(tmp_path, condition=None, gate=gate, max_condition_drop=0.02)

    def counted(base: int, c1: int) -> list[Counts]:
        hits = {"base": base, "c1": c1}
        return [Counts(id=s.id, truth=(100,), predicted=(100,), hits=(hits[s.condition],)) for s in gate]

    live = counted(80, 60)
    assert not costs_too_much(job, live, counted(80, 60))
    assert not costs_too_much(job, live, counted(79, 70))
    assert costs_too_much(job, live, counted(70, 90)), "it gains in all and costs the base"
    assert costs_too_much(job, live, counted(80, 59)), "it costs no condition too much and gains nothing"
    assert not costs_too_much(msgspec.structs.replace(job, max_condition_drop=None), live, counted(0, 0))


def test_what_costs_a_class_more_than_is_allowed(tmp_path: Path) -> None:
    gate = tuple(jobs.JobSample(id=str(number), image="", label="") for number in range(6))
    job = work_order(tmp_path, condition=None, gate=gate, max_condition_drop=0.02, max_class_drop=0.05)

    def counted(first: int, second: int, pixels: int = 1000) -> list[Counts]:
        truth, hits = (pixels, pixels), (first * pixels // 100, second * pixels // 100)
        return [Counts(id=each.id, truth=truth, predicted=truth, hits=hits) for each in gate]

    live = counted(80, 60)
    assert not costs_too_much(job, live, counted(78, 70)), "no class falls by more than is allowed"
    assert costs_too_much(job, live, counted(70, 90)), "it gains in all and costs the first class"
    assert not costs_too_much(job, counted(80, 60, 100), counted(70, 90, 100)), "too few pixels to tell"
    earlier = msgspec.structs.replace(job, max_class_drop=None)
    assert not costs_too_much(earlier, live, counted(70, 90)), "a job of an earlier build asks for no more"


@pytest.mark.parametrize(("dear", "taken"), [((), 1.0), ((1.0,), 0.5), ((1.0, 0.5), 0.5)])
def test_the_first_candidate_that_does_not_cost_too_much_is_made(
    tmp_path: Path, dear: tuple[float, ...], taken: float
) -> None:
    order = work_order(tmp_path, condition=None, max_condition_drop=0.02)
    model, card = checkpoint.load(Path(order.live))
    kind = KINDS["whole"](order, Kept(), model, card)
    assert kind.shares == (1.0, 0.5)
    tried: list[float] = []

    def judge(_: torch.nn.Module, __: Serving) -> tuple[ScoreCard, tuple[Counts, ...]]:
        tried.append(kind.shares[len(tried)])
        return ScoreCard(miou=tried[-1], iou_per_class=(), pixels_per_class=(), samples=1), ()

    made = main._made(kind, model, judge=judge, costs_too_much=lambda _: tried[-1] in dear)
    assert (made.share, made.scores.miou) == (taken, taken)
