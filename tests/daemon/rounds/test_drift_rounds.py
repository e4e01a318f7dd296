"""Drift starts rounds: alarms of real detectors, a real store, and the rounds thread."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from round_rig import CONFIG, Rig

from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.config.sections import Energy
from dance_ondevice.daemon.inference.cameras import (
    Conditions,
    ConditionsSnapshot,
    DriftAlarm,
)
from dance_ondevice.daemon.rounds import verdict
from dance_ondevice.daemon.rounds.context import Outcome
from dance_ondevice.daemon.rounds.drift_watch import DriftWatch
from dance_ondevice.daemon.rounds.service import Request, Rounds
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.images.codec import encode_png
from dance_ondevice.policies.samples.wanted import WantedLabels

pytestmark = pytest.mark.usefixtures("first_models_at_hand")

#: When the first stored sample arrives, see ``add_street``.
START = 1_700_000_000.0
DAY, DUSK = 180, 60


class Cameras:
    """What the predictor's side publishes, with a clock of the test's own."""

    def __init__(self) -> None:
        self.now = START
        self._conditions = Conditions(
            sections.Conditions(enabled=False),
            now=lambda: self.now,
            on_alarm=lambda camera, signal: None,
            on_switch=lambda: None,
        )

    def show(self, grey: int, *, camera: str = "front", frames: int = 48) -> None:
        draw = np.random.default_rng(grey)
        for _ in range(frames):
            image = draw.normal(grey, 4, (24, 32, 3)).clip(0, 255).astype(np.uint8)
            self._conditions.observe(camera, image, 0.2)

    def drift(self, at: float, camera: str = "front") -> None:
        """Day, and dusk from that time on."""
        self.show(DAY, camera=camera)
        self.now = at
        self.show(DUSK, camera=camera)

    def snapshot(self) -> ConditionsSnapshot:
        return self._conditions.snapshot()


@pytest.fixture
def cameras() -> Cameras:
    return Cameras()


@pytest.fixture
def rig(paths: StatePaths, store: Store, cameras: Cameras) -> Rig:
    rig = Rig(paths, store, CONFIG)
    rig.context.drift = cameras.snapshot
    return rig


def rounds(rig: Rig, min_new_samples: int = 100) -> Rounds:
    training = msgspec.structs.replace(rig.context.config.training, min_new_samples=min_new_samples)
    rig.context.config = msgspec.structs.replace(rig.context.config, training=training)
    service = Rounds(rig.context)
    service.setup()
    return service


def tick(service: Rounds) -> dict[str, Any]:
    return service._round(Request(1, "tick", "test"))


def after_drift(rig: Rig, count: int) -> None:
    training = msgspec.structs.replace(rig.context.config.training, min_new_samples_after_drift=count)
    rig.context.config = msgspec.structs.replace(rig.context.config, training=training)


def test_only_samples_of_the_camera_that_came_since_count(
    rig: Rig, cameras: Cameras, add_street: Any
) -> None:
    after_drift(rig, 12)
    service = rounds(rig)
    add_street(rig.store, 20)
    cameras.drift(START + 20)
    cameras.drift(START + 20, camera="rear")
    reason = tick(service)["reasons"][0]
    assert reason.startswith("20 of 100 new labelled samples, or 0 of 12 since drift of luma")
    add_street(rig.store, 9, start=20, condition="dusk")
    assert "or 9 of 12 since drift of luma" in tick(service)["reasons"][0]
    assert service.snapshot().waiting_for == tick(service)["reasons"][0]
    # Not one of them has its place yet: blocks of time are cut from enough of them.
    assert {s.split for s in rig.procedure.samples()} == {None}


def test_a_drift_asks_a_person_for_the_labels_that_a_round_needs(
    rig: Rig, cameras: Cameras, add_street: Any
) -> None:
    after_drift(rig, 12)
    service = rounds(rig)
    add_street(rig.store, 20, labelled=False)
    service._ask_for_labels()
    assert service.snapshot().labels_wanted == ()
    cameras.drift(START + 20)
    add_street(rig.store, 3, start=20, condition="dusk")
    add_street(rig.store, 6, start=30, condition="dusk", labelled=False)
    service._ask_for_labels()
    (wanted,) = service.snapshot().labels_wanted
    assert (wanted.camera, wanted.frames) == ("front", 6)
    assert "luma changed" in wanted.words
    add_street(rig.store, 9, start=40, condition="dusk")
    service._ask_for_labels()
    assert service.snapshot().labels_wanted == ()


def test_labels_that_would_decide_are_asked_for_until_they_have_come_and_again_after_an_undo(
    rig: Rig, add_street: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = rounds(rig)
    old = add_street(rig.store, 8)
    lacking = WantedLabels(camera="", condition="dusk", frames=4, why="they would decide")
    monkeypatch.setattr(verdict, "labels_wanted", lambda _: lacking)
    service._remember_lack(cast("Outcome", SimpleNamespace(version=None, outcome="rejected")))

    def asked() -> bool:
        service._ask_for_labels()
        return service.snapshot().labels_wanted == (lacking,)

    assert asked()
    # As where a full store evicts a labelled sample for each new one: there are as many as before.
    add_street(rig.store, 3, start=20)
    rig.store.remove_samples(old[:3]).result(10)
    assert asked()
    png = encode_png(np.zeros((48, 64), np.uint8))
    rig.store.add_label(old[4], png, [0], "import", import_id="a").result(10)
    assert not asked()
    rig.store.restore_label(old[4]).result(10)
    assert asked()


def test_without_anything_that_watches_rounds_start_as_ever(rig: Rig, add_street: Any) -> None:
    rig.context.drift = None
    add_street(rig.store, 20)
    assert tick(rounds(rig))["reasons"] == ["20 of 100 new labelled samples"]


@pytest.mark.slow
def test_an_alarm_waits_for_joules_and_for_the_pause_to_end(
    paths: StatePaths, store: Store, cameras: Cameras, add_street: Any
) -> None:
    rig = Rig(paths, store, msgspec.structs.replace(CONFIG, energy=Energy(budget_joules_per_day=0.0)))
    rig.context.drift = cameras.snapshot
    after_drift(rig, 4)
    service = rounds(rig)
    cameras.drift(START)
    add_street(store, 40)
    service.pause()
    assert tick(service)["reasons"] == ["paused"]
    service.resume()
    for _ in range(2):
        # Refused by what joules there are, again and again: the alarm is not spent on that.
        assert b"0 J" in msgspec.json.encode(tick(service))
        assert b"0 J" in msgspec.json.encode(service.snapshot().waiting_for)
    (waiting,) = service._drift.drifted(rig.procedure.samples())
    assert (waiting.camera, waiting.new_labelled) == ("front", 40)


def test_what_a_round_has_answered_is_gone_and_what_came_meanwhile_is_kept(
    store: Store, cameras: Cameras
) -> None:
    watch = DriftWatch(cameras.snapshot, store)
    cameras.drift(START)
    cameras.drift(START, camera="rear")
    assert {each.camera for each in watch.drifted([])} == {"front", "rear"}
    known = watch.latest
    assert known == cameras.snapshot().alarm_count
    cameras.now = START + 100
    cameras.show(DAY)
    watch.update()
    watch.answered(["front"], known)
    left = watch.drifted([])
    assert {each.camera for each in left} == {"front", "rear"}
    watch.answered(["front", "rear", "never seen"], watch.latest)
    assert watch.drifted([]) == []
    # Nothing is taken over twice.
    watch.update()
    assert watch.drifted([]) == []


def test_more_alarms_than_a_snapshot_lists_are_not_lost_to_who_looks(store: Store) -> None:
    alarms = [
        DriftAlarm(number=number, camera="rear" if number > 1 else "front", signal="luma", at=START)
        for number in range(1, 601)
    ]
    shown = 0
    watch = DriftWatch(
        lambda: ConditionsSnapshot(alarms=tuple(alarms[max(0, shown - 256) : shown]), alarm_count=shown),
        store,
    )
    for shown in range(0, 601, 100):  # noqa: B007 - the snapshot above reads it
        watch.update()
    assert [each.camera for each in watch.drifted([])] == ["front", "rear"]
    assert watch.latest == 600


@pytest.mark.slow
def test_one_alarm_starts_one_round_and_those_that_come_meanwhile_another(
    rig: Rig, cameras: Cameras, add_street: Any
) -> None:
    after_drift(rig, 12)
    service = rounds(rig)
    shown: list[str] = []

    def snapshot() -> ConditionsSnapshot:
        running = service.snapshot().running
        if running is not None and not shown:
            # It clears up while the trainer is at work.
            shown.append(running.round)
            cameras.now = START + 200
            cameras.show(DAY)
        return cameras.snapshot()

    service._drift._snapshot = snapshot
    cameras.drift(START + 20)
    add_street(rig.store, 20)
    add_street(rig.store, 30, start=20, condition="dusk")
    service.start()
    try:
        service.tick("schedule")
        _until(lambda: sum(service.snapshot().counts.values()) == 1, service)
        (row,) = rig.rows('select reason, "trigger" from rounds')
        assert row["trigger"] == "schedule"
        assert row["reason"].startswith("drift of luma")
        assert "new labelled samples since" in row["reason"]
        assert shown
        # Only the alarm that came meanwhile is left, and nothing has come since.
        service.tick("schedule")
        _until(lambda: "or 0 of 12 since drift of" in service.snapshot().waiting_for, service)
        add_street(rig.store, 30, start=200)
        service.tick("schedule")
        _until(lambda: sum(service.snapshot().counts.values()) == 2, service)
        service.tick("schedule")
        _until(lambda: "new labelled samples" in service.snapshot().waiting_for, service)
        _until(lambda: "since drift" not in service.snapshot().waiting_for, service)
    finally:
        assert service.stop(20)
    assert service.failure is None


def _until(done: Any, service: Rounds) -> None:
    deadline = time.monotonic() + 300
    while not done():
        assert service.alive, service.failure
        assert time.monotonic() < deadline, service.snapshot()
        time.sleep(0.02)  # between two looks at a snapshot that nobody signals; how long decides nothing
