"""What an interrupted round meets at the next start: damage, a pause, its time, and too many starts."""

from __future__ import annotations

import json
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from round_rig import CONFIG, NO_SAMPLES, Rig

from dance_ondevice.daemon.rounds import prepare, record
from dance_ondevice.daemon.rounds.context import Outcome
from dance_ondevice.daemon.rounds.prepare import RoundPart
from dance_ondevice.daemon.rounds.procedure import MOST_RESUMES
from dance_ondevice.daemon.rounds.service import Rounds
from dance_ondevice.daemon.rounds.training import RoundClock, RoundTraining
from dance_ondevice.daemon.rounds.watch import RunResult
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions.versions import VersionError

pytestmark = pytest.mark.usefixtures("first_models_at_hand")

NIGHT = msgspec.structs.replace(
    CONFIG, training=msgspec.structs.replace(CONFIG.training, window="01:00-05:00")
)
#: As an earlier version wrote it: without all that this one asks for.
OLD_JOB = '{"round": "r1", "live": "v0001"}'


@pytest.fixture
def rig(paths: StatePaths, store: Store) -> Rig:
    """A first version is live, and a round that began from it is open and can go on."""
    found = Rig(paths, store, CONFIG)
    folder = paths.rounds / "made-up"
    folder.mkdir()
    (folder / "card.json").write_text('{"architecture": "fastscnn"}')
    (folder / "model.safetensors").write_bytes(b"")
    found.versions.adopt(folder, status="candidate", round_id=None, changes={})
    found.versions.make_live("v0001", reason="test")
    leave_open(found)
    return found


def leave_open(rig: Rig, **more: object) -> None:
    row = {"id": "r1", "started_at": 1.0, "trigger": "t", "reason": "", "parent": "v0001", **more}
    rig.store.submit(lambda db: record.open_round(db, row, NO_SAMPLES)).result()
    checkpoint = rig.paths.rounds / "r1" / "checkpoint"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "complete").write_bytes(b"0")
    (rig.paths.rounds / "r1" / "job.json").write_text(OLD_JOB)


def the_round(rig: Rig) -> dict[str, Any]:
    (found,) = rig.rows("select * from rounds")
    return found


def begun(rig: Rig, **options: Any) -> Rounds:
    service = Rounds(rig.context, **options)
    service.start()
    return service


def asked(service: Rounds) -> dict[str, Any]:
    """The answer to a rollback: whatever was to do before it is done."""
    request = service.rollback(None)
    while (answer := service.answer(request)) is None or answer["state"] != "done":
        threading.Event().wait(0.01)
    return answer


def test_an_interrupted_round_that_cannot_be_read_is_closed_and_the_thread_lives(rig: Rig) -> None:
    service = begun(rig)
    assert asked(service)["outcome"] == "failed"
    assert service.alive
    assert service.failure is None
    assert service.snapshot().counts == {"failed": 1}
    assert service.stop()
    row = the_round(rig)
    assert row["outcome"] == "failed"
    assert "DocumentError" in row["reasons"]
    # The next start has nothing to stumble over.
    assert rig.procedure.interrupted() == []


def test_whatever_fails_in_recovery_or_between_requests_is_survived(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise ArithmeticError("unheard of")

    service = Rounds(rig.context)
    for part, name in (
        (service._procedure, "recover"),
        (service._procedure, "resume"),
        (service._teaching, "recover"),
        (service, "_review_learning"),
    ):
        monkeypatch.setattr(part, name, breaks)
    service.start()
    assert asked(service)["outcome"] == "failed"
    assert service.alive
    assert "unheard of" in service.snapshot().waiting_for
    assert service.stop()


def test_a_pause_holds_an_interrupted_round_until_it_ends(rig: Rig) -> None:
    (rig.paths.root / "paused").touch()
    service = begun(rig)
    asked(service)
    assert service.snapshot().waiting_for == "round r1 was interrupted and waits: paused"
    assert the_round(rig)["outcome"] is None
    service.resume()
    asked(service)
    asked(service)  # the loop has come round since
    assert service.stop()
    assert the_round(rig)["outcome"] == "failed"


def test_the_window_holds_an_interrupted_round_but_not_one_that_is_asked_for(rig: Rig) -> None:
    rig.context.config = NIGHT
    service = begun(rig, local_time=lambda: datetime(2026, 1, 1, 12, 0))
    asked(service)
    assert service.snapshot().waiting_for.endswith("waits: outside the window 01:00-05:00")
    request = service.train_now()
    asked(service)
    answer = service.answer(request)
    assert answer is not None
    assert (answer["outcome"], answer["round"]) == ("failed", "r1")
    assert service.stop()


def test_a_round_that_ends_the_daemon_each_time_goes_on_only_so_often(rig: Rig) -> None:
    leave_open(rig, resumes=MOST_RESUMES)
    outcome = rig.procedure.resume(the_round(rig))
    assert outcome.outcome == "failed"
    assert outcome.reasons == (f"interrupted {MOST_RESUMES + 1} times: it does not go on again",)


def test_a_round_whose_start_is_not_live_any_more_does_not_go_on(rig: Rig) -> None:
    leave_open(rig, parent="v0007")
    outcome = rig.procedure.resume(the_round(rig))
    assert (outcome.outcome, outcome.reasons[0]) == (
        "failed",
        "interrupted, and v0007, which it began from, is not live any more",
    )


def test_a_round_of_a_state_that_was_moved_does_not_go_on(rig: Rig, tmp_path: Path) -> None:
    """Its job names files by their old paths: all would count as unreadable, or be those of the original."""
    (tmp_path / "old").symlink_to(rig.paths.root)
    for root in (rig.paths.root, tmp_path / "old", tmp_path / "elsewhere"):
        assert len(rig.procedure.interrupted()) == 1
        job = {"checkpoint": str(root / "rounds" / "r1" / "checkpoint")}
        (rig.paths.rounds / "r1" / "job.json").write_text(json.dumps(job))
        rig.procedure.recover()
    assert the_round(rig)["outcome"] == "failed"


def test_a_round_that_has_had_its_time_before_the_restart_gets_no_more(rig: Rig) -> None:
    leave_open(rig, seconds=600.0, max_seconds=600.0)
    outcome = rig.procedure.resume(the_round(rig))
    assert (outcome.outcome, outcome.seconds) == ("stopped", 600.0)
    assert "training.max_round_duration" in outcome.reasons[0]


def test_the_clock_of_a_round_goes_on_where_its_row_says(rig: Rig) -> None:
    now = [1000.0]
    clock = RoundClock(rig.store, lambda: now[0], "r1", most=600.0, before=250.0)
    assert clock.deadline == 1350.0
    now[0] = 1020.0
    clock.keep_now_and_then()
    assert the_round(rig)["seconds"] is None, "not with each look"
    now[0] = 1040.0
    clock.keep_now_and_then()
    assert the_round(rig)["seconds"] == 290.0
    assert clock.deadline == 1350.0


def part(rig: Rig) -> RoundPart:
    """A round that has its work order, from frames of the street."""
    config = rig.context.config
    found = prepare.prepare(
        rig.context, rig.procedure.assign_splits(config), config=config, trigger="test", reason="asked"
    )
    assert isinstance(found, RoundPart), found
    return found


@pytest.fixture
def fresh(paths: StatePaths, store: Store, add_street: Any) -> Rig:
    add_street(store, 24)
    return Rig(paths, store, CONFIG)


@pytest.mark.slow
def test_a_round_that_shrinks_keeps_its_deadline(fresh: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines: list[float] = []
    now = [100.0]
    fresh.context.monotonic = lambda: now[0]

    def watch(*_: object, limits: Any, **__: object) -> RunResult:
        deadlines.append(limits.deadline)
        now[0] += 50.0
        return RunResult(state="memory", reason="it needs more", steps=0, cpu_seconds=1.0)

    monkeypatch.setattr("dance_ondevice.daemon.rounds.training.watch", watch)
    outcome = fresh.round()
    assert outcome.outcome == "failed"
    assert len(deadlines) > 1
    assert len(set(deadlines)) == 1
    (row,) = fresh.rows("select seconds, max_seconds from rounds")
    assert row["seconds"] == 50.0 * len(deadlines)
    assert deadlines[0] == 100.0 + row["max_seconds"]


@pytest.mark.slow
def test_a_round_keeps_to_the_configuration_that_it_began_with(
    fresh: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    began_with = fresh.context.config
    other = msgspec.structs.replace(CONFIG.training, batch_size=2, precision="bf16")
    really = prepare.round_plan.fit

    def fit(*arguments: Any, **options: Any) -> Any:
        fresh.context.config = msgspec.structs.replace(CONFIG, training=other)  # reloaded amid the planning
        return really(*arguments, **options)

    monkeypatch.setattr(prepare.round_plan, "fit", fit)
    made = part(fresh)
    assert (made.job.batch_size, made.job.precision) == (CONFIG.training.batch_size, "fp32")
    assert made.config is began_with


@pytest.mark.slow
def test_whatever_fails_after_the_reservation_closes_the_record(
    fresh: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> Any:
        raise MemoryError("for a fork")

    monkeypatch.setattr(RoundTraining, "run", breaks)
    outcome = fresh.round()
    assert (outcome.outcome, outcome.reasons) == ("failed", ("MemoryError: for a fork",))
    assert the_round(fresh)["outcome"] == "failed"
    assert fresh.rows("select * from ledger where closed_at is null") == []


class Brought:
    """Serves a model that somebody brought: loading it raises what it likes."""

    def prepare(self, directory: object) -> Any:
        raise RuntimeError("no such operator")


def test_a_version_that_raises_anything_while_it_loads_is_refused(rig: Rig) -> None:
    rig.versions.annotate("v0001", {"classes": list(CONFIG.model.classes)})
    rig.context.live_model = Brought()
    with pytest.raises(VersionError, match="v0001 does not load: no such operator"):
        rig.procedure.switch("v0001", reason="test")


def test_a_verdict_that_cannot_be_enacted_closes_the_record(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> Outcome:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(rig.procedure, "_resume", breaks)
    assert rig.procedure.resume(the_round(rig)).outcome == "failed"
    assert the_round(rig)["outcome"] == "failed"
    assert json.loads(the_round(rig)["reasons"]) == ["RuntimeError: no such operator"]
