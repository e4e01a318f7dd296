"""From the store to the work order: anchors in, and rehearsal as forgetting asks."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dance_ondevice.daemon.children.jobs import JobSample
from dance_ondevice.daemon.config.sections import Config, Energy, Training
from dance_ondevice.daemon.energy.budget import BudgetKeeper
from dance_ondevice.daemon.planning import fit as round_plan
from dance_ondevice.daemon.planning import job as round_job
from dance_ondevice.daemon.planning.scope import FLEET, WHOLE, of_condition
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.images.codec import encode_jpeg, encode_png
from dance_ondevice.policies.rounds.start import RoundPlan

PLAN = RoundPlan(train=("n1", "n2", "n3", "n4"), rehearsal=(), gate=("g1",), reason="why")


@pytest.fixture
def budget(store: Store) -> BudgetKeeper:
    made = BudgetKeeper(
        store,
        Energy(budget_joules_per_day=1e7, max_watts=4.0),
        now=time.time,
        monotonic=time.monotonic,
        hindrances=lambda: (),
    )
    made.load(history_lost=False)
    return made


def config(anchors: Path | str) -> Config:
    return Config(training=Training(anchors=str(anchors)), energy=Energy(budget_joules_per_day=1e7))


def fit(settings: Config, budget: BudgetKeeper, **changes: Any) -> round_plan.FittedRound | str:
    known = round_plan.Stored(
        pixels=dict.fromkeys(PLAN.train, (1.0, 480.0 * 360.0)), new_samples={}, arrived=4
    )
    return round_plan.fit(
        settings,
        budget,
        PLAN,
        known=known,
        macs=1000,
        past=[],
        forced=True,
        **changes,
    )


def test_anchors_are_rehearsed_and_reach_the_work_order(budget: BudgetKeeper, tmp_path: Path) -> None:
    for name, suffix, data in (
        ("images", "jpg", encode_jpeg(np.full((6, 8, 3), 90, np.uint8))),
        ("labels", "png", encode_png(np.zeros((6, 8), np.uint8))),
    ):
        (tmp_path / "anchors" / name).mkdir(parents=True)
        for index in range(9):
            (tmp_path / "anchors" / name / f"a{index}.{suffix}").write_bytes(data)
    settings = config(tmp_path / "anchors")
    fitted = fit(settings, budget)
    assert isinstance(fitted, round_plan.FittedRound), fitted
    assert len(fitted.plan.rehearsal) == 4
    assert "4 anchors" in fitted.reason
    more = fit(settings, budget, rehearsal_share=0.8)
    assert isinstance(more, round_plan.FittedRound), more
    assert len(more.plan.rehearsal) == 9
    build = partial(
        round_job.build,
        settings,
        tmp_path / "rounds" / "r1",
        live=tmp_path,
        frozen=tmp_path,
        samples=lambda ids: tuple(JobSample(id=each, image=each, label=each) for each in ids),
        plan=fitted.plan,
        steps=1,
        learning_rate=0.1,
        scales=fitted.scales,
        target_macs=None,
        seed=0,
    )
    job = build()
    assert [sample.id for sample in job.rehearsal] == sorted(fitted.plan.rehearsal)
    assert all(Path(sample.image).is_file() and Path(sample.label).is_file() for sample in job.rehearsal)
    assert [sample.id for sample in job.train] == list(PLAN.train)
    # Where a candidate costs more than is allowed, a nearer one is tried; a fleet's board does so by itself.
    for scope in (WHOLE, of_condition("c1"), FLEET):
        found, gate = build(scope=scope), settings.promotion
        most = None if scope is FLEET else gate.max_condition_drop
        assert (found.max_condition_drop, found.max_class_drop) == (most, gate.max_class_drop)


def test_a_folder_without_anchors_starts_no_round_and_says_so(budget: BudgetKeeper, tmp_path: Path) -> None:
    told = fit(config(tmp_path), budget)
    assert isinstance(told, str)
    assert "training.anchors" in told


def test_what_candidates_forgot_of_old_scenes_raises_the_share(store: Store) -> None:
    def share() -> float:
        return store.submit(lambda db: round_plan.rehearsal_share(db, 0.5)).result(10)

    assert share() == 0.5
    groups = [{"name": "condition dusk", "gain": 0.2}, {"name": "condition base", "gain": -0.05}]
    for number, card in enumerate(("{}", json.dumps({"gate": {"table": {"groups": groups}}}))):
        row = {"version": f"v{number}", "status": "rejected", "card": card}
        ended = {"id": f"r{number}", "started_at": number, "outcome": "rejected", "candidate": f"v{number}"}
        store.submit(
            lambda db, row=row, ended=ended: (db["versions"].insert(row), db["rounds"].insert(ended))
        ).result(10)
    assert share() == pytest.approx(0.8)


def test_a_round_of_a_board_that_begins_at_the_same_second_gets_a_number_of_its_own(
    paths: StatePaths,
) -> None:
    first = round_job.new_id(paths, 1805.0)
    (paths.rounds / first).mkdir()
    second = round_job.new_id(paths, 1805.0)
    assert second != first
    # Its folder has been removed since, its record has not.
    assert round_job.new_id(paths, 1805.0, {second}) not in {first, second}
