"""The rounds thread's decisions, without a trainer: suspension, the use of learning, what it waits for."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
import pytest
from round_rig import CONFIG, Rig

from dance_ondevice.daemon.config.sections import Energy
from dance_ondevice.daemon.planning.pace import of_first, of_live
from dance_ondevice.daemon.rounds.context import Outcome
from dance_ondevice.daemon.rounds.service import Request, Rounds
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions.versions import Pointer
from dance_ondevice.policies.budget.usefulness import usefulness

pytestmark = pytest.mark.usefixtures("first_models_at_hand")

SUSPENDING = msgspec.structs.replace(
    CONFIG, training=msgspec.structs.replace(CONFIG.training, suspend_after_rounds=3, min_new_samples=4)
)


def rounds(rig: Rig) -> Rounds:
    return Rounds(rig.context)


def finished(rig: Rig, number: int, outcome: str = "rejected", *, live: float = 0.4) -> None:
    row = {
        "id": f"r{number}",
        "started_at": float(number),
        "outcome": outcome,
        "miou_before": 0.4,
        "miou_after": live if outcome == "promoted" else 0.35,
        "miou_frozen": 0.4,
    }
    ledger = {
        "round_id": f"r{number}",
        "reserved_joules": 600.0,
        "settled_joules": 500.0,
        "opened_at": 0.0,
        "closed_at": 1.0,
        "boot_id": "",
        "opened_monotonic": 0.0,
    }

    def write(db: Any) -> None:
        db["rounds"].insert(row)
        db["ledger"].insert(ledger)

    rig.store.submit(write).result()


@pytest.fixture
def rig(paths: StatePaths, store: Store) -> Rig:
    return Rig(paths, store, SUSPENDING)


def answer(service: Rounds, kind: Literal["tick", "train"]) -> dict[str, Any]:
    return service._round(Request(1, kind, "test"))


def test_what_learning_has_brought_is_known_after_a_restart(rig: Rig) -> None:
    finished(rig, 1, "promoted", live=0.5)
    service = rounds(rig)
    service.setup()
    learning = service.snapshot().learning
    assert learning is not None
    assert learning.gain == pytest.approx(0.1)
    assert learning.joules == 500.0
    assert learning.gain_per_kilojoule == pytest.approx(0.2)
    assert service.snapshot().suspended == ""


@pytest.mark.parametrize(
    ("live", "measured"),
    [("v0001", 0.4), ("v0002", 0.6), ("v0003", 0.5), ("v0009", 0.5)],
    ids=["the first", "an earlier one", "the latest", "one that no round measured"],
)
def test_the_miou_that_is_told_is_that_of_the_live_version(live: str, measured: float) -> None:
    scores = {"outcome": "promoted", "miou_frozen": 0.4}
    past = [
        {**scores, "parent": "v0001", "candidate": "v0002", "miou_before": 0.4, "miou_after": 0.6},
        {**scores, "parent": "v0008", "candidate": "v0003", "miou_before": 0.3, "miou_after": 0.5},
    ]
    told = usefulness(of_live(past, Pointer(live, None, "v0001")), 1.0)
    assert (told.live, told.frozen) == (measured, 0.4)


def test_rounds_against_another_first_model_suspend_nothing() -> None:
    row = {"outcome": "rejected", "miou_before": 0.4, "miou_after": 0.3, "miou_frozen": 0.4}
    past = [{**row, "parent": parent} for parent in ("v0001", "v0001", "v0003", "v0010")]
    assert len(of_first(past, Pointer("v0010", None, "v0001"))) == 4
    assert len(of_first(past, Pointer("v0010", None, "v0003"))) == 2, "a model was brought in as the first"


def test_a_refusal_for_want_of_joules_is_told_until_the_budget_changes(rig: Rig) -> None:
    service = rounds(rig)
    service._publish(refused="0 J are left of the 100 J", refused_for_energy=True)
    service.reconfigure(SUSPENDING)
    assert service.snapshot().refused_for_energy
    service.reconfigure(msgspec.structs.replace(SUSPENDING, energy=Energy(budget_joules_per_day=9e4)))
    assert (service.snapshot().refused, service.snapshot().refused_for_energy) == ("", False)


@pytest.mark.slow
def test_rounds_that_never_help_are_suspended_until_one_is_asked_for(rig: Rig, add_street: Any) -> None:
    for number in range(3):
        finished(rig, number)
    add_street(rig.store, 12)
    service = rounds(rig)
    service.setup()
    refused = answer(service, "tick")
    assert refused["outcome"] == "refused"
    assert "suspended: in the last 3 rounds" in refused["reasons"][0]
    assert service.snapshot().waiting_for == service.snapshot().suspended == refused["reasons"][0]
    # Asked for by hand it goes on to the next question: here, there is no energy for it.
    rig.context.config = msgspec.structs.replace(SUSPENDING, energy=Energy(budget_joules_per_day=0.0))
    poor = Rig(rig.paths, rig.store, rig.context.config)
    service = rounds(poor)
    service.setup()
    asked = answer(service, "train")
    assert asked["outcome"] == "refused"
    assert "0 J" in asked["reasons"][0]
    assert "suspended" not in asked["reasons"][0]


def test_a_round_that_helps_ends_the_suspension(rig: Rig) -> None:
    for number in range(3):
        finished(rig, number)
    service = rounds(rig)
    service.setup()
    assert service.snapshot().suspended
    finished(rig, 3, "promoted", live=0.5)
    service._review_learning()
    assert service.snapshot().suspended == ""


def test_rounds_count_in_their_order_also_where_the_clock_went_back(rig: Rig) -> None:
    for number in (2001, 2002, 2003, 1, 2, 3):
        finished(rig, number)
    past = rig.procedure.past_rounds(3)
    assert [row["id"] for row in past] == ["r1", "r2", "r3"]


def test_one_labelled_frame_and_none_at_all_are_clear_states(rig: Rig, add_street: Any) -> None:
    service = rounds(rig)
    service.setup()
    assert "0 of 1 new labelled samples" in answer(service, "train")["reasons"][0]
    add_street(rig.store, 1)
    reason = answer(service, "train")["reasons"][0]
    assert "no held-out samples" in reason
    assert service.snapshot().waiting_for == reason


def test_a_probation_that_breaks_keeps_no_round_from_its_answer(rig: Rig, monkeypatch: Any) -> None:
    service = rounds(rig)
    service.setup()

    def breaks(**_: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr(service._procedure.probation, "evaluate", breaks)
    assert answer(service, "tick")["outcome"] == "refused"
    assert "disk" in service.snapshot().probation


@pytest.mark.parametrize("outcome", ["rejected", "promoted"])
def test_versions_of_the_fleet_are_no_rounds_of_training(rig: Rig, monkeypatch: Any, outcome: str) -> None:
    counted: list[str] = []
    monkeypatch.setattr(rig.context.instruments, "round_finished", counted.append)
    facts: dict[str, Any] = {field.name: None for field in dataclasses.fields(Outcome)}
    judged = Outcome(**{**facts, "outcome": outcome, "reasons": ()})
    service = rounds(rig)
    assert service._resume_interrupted() is None
    monkeypatch.setattr(service, "_fleet", SimpleNamespace(step=lambda _: judged))
    service._serve_fleet()
    assert service.snapshot().last is judged
    assert not counted
    service._finished(judged)
    assert counted == [outcome]
