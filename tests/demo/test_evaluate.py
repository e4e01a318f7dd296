"""Versions are judged as they would serve: each light with its own statistics, the first model without."""

from __future__ import annotations

from pathlib import Path

import pytest
from condition_models import SIZE, dusk_statistics, write_version

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.demo import evaluate
from dance_ondevice.demo.session import PhasePlan
from dance_ondevice.images.confusion import miou
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models import checkpoint
from dance_ondevice.training.evaluation import evaluate as confusion

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread_one_seed")]

N = len(STREET_CLASSES)


def test_a_phase_is_scored_in_the_condition_of_its_light(tmp_path: Path) -> None:
    for version in ("v0001", "v0002"):
        write_version(tmp_path / version, classes=tuple(STREET_CLASSES))
    plans = [
        PhasePlan(name="day", condition="day", drifted=False),
        PhasePlan(name="dusk", condition="dusk", drifted=True),
    ]
    fresh = evaluate.render_fresh(tmp_path / "fresh", plans, 3, seed=5, size=SIZE)
    phases = [
        evaluate.PhaseVersions(fresh=each, live="v0002", condition=condition)
        for each, condition in zip(fresh, ("base", "c1"), strict=True)
    ]
    told: list[tuple[int, int]] = []
    (day, dusk), pictures = evaluate.score(
        tmp_path, phases, frozen="v0001", final="v0002", n_classes=N, on_score=lambda *done: told.append(done)
    )

    model, card = checkpoint.load(tmp_path / "v0002")

    def scored(index: int) -> float:
        return miou(confusion(model, fresh[index].samples, card.normalisation, N))

    own = [scored(0), scored(1)]
    conditions.apply(model, dusk_statistics(model))
    assert (day.frozen, day.live, day.final) == pytest.approx((own[0],) * 3)
    assert dusk.frozen == pytest.approx(own[1])
    assert (dusk.live, dusk.final) == pytest.approx((scored(1),) * 2)
    assert dusk.frozen != pytest.approx(dusk.live), "or the test shows nothing"
    assert pictures[0].live_png == pictures[0].frozen_png
    assert pictures[1].live_png != pictures[1].frozen_png
    assert told[-1] == (4, 4)
