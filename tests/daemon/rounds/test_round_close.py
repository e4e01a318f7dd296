"""How rounds end in the books, also when a crash comes between the verdict and its effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from round_rig import CONFIG, NO_SAMPLES, Rig

from dance_ondevice.daemon.config.sections import Config, Promotion
from dance_ondevice.daemon.rounds import closing as round_close
from dance_ondevice.daemon.rounds import record as round_record
from dance_ondevice.daemon.rounds.context import Outcome
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths

pytestmark = pytest.mark.usefixtures("first_models_at_hand")

#: No candidate can pass.
STRICT = msgspec.structs.replace(
    CONFIG,
    promotion=Promotion(min_gain=1.0),
    training=msgspec.structs.replace(CONFIG.training, early_stopping=False),
)


class PowerCut(BaseException):
    """The daemon ends here."""


def cut(*_: Any, **__: Any) -> Any:
    raise PowerCut


def open_round(rig: Rig, round_id: str) -> None:
    row = {"id": round_id, "started_at": 1.0, "trigger": "t", "reason": "", "parent": "v0001"}
    rig.store.submit(lambda db: round_record.open_round(db, row, NO_SAMPLES)).result()


def test_a_round_that_a_crash_cut_short_has_cost_what_the_ledger_says(
    paths: StatePaths, store: Store
) -> None:
    rig = Rig(paths, store, CONFIG)
    open_round(rig, "r1")
    rig.budget.reserve("r1", 300.0)
    rig.budget.settle("r1", gross=120.0, attributed=40.0, method="modelled")
    rig.budget.reserve("r1", 300.0)
    rig.procedure.recover()
    (row,) = rig.rows("select outcome, gross_joules, joules from rounds")
    assert row == {"outcome": "failed", "gross_joules": 420.0, "joules": 40.0}


def test_a_rollback_that_a_crash_kept_out_of_the_rounds_is_recorded_by_the_next_start(
    paths: StatePaths, store: Store
) -> None:
    rig = Rig(paths, store, CONFIG)
    for number, status in ((1, "retired"), (2, "rolled_back")):
        row = {"id": f"r{number}", "started_at": 1.0, "outcome": "promoted", "reasons": '["better"]'}
        version = {"version": f"v{number}", "status": status, "round_id": f"r{number}"}
        store.submit(lambda db, row=row: db.table("rounds").insert(row)).result()
        store.submit(lambda db, version=version: db.table("versions").insert(version)).result()
    rig.procedure.recover()
    rows = rig.rows("select outcome, reasons from rounds order by id")
    assert [row["outcome"] for row in rows] == ["promoted", "rolled_back"]
    assert "rolled back on probation" in rows[1]["reasons"]


def test_what_a_trainer_left_behind_goes_with_its_round(paths: StatePaths, store: Store) -> None:
    rig = Rig(paths, store, CONFIG)
    open_round(rig, "r1")
    folder = paths.rounds / "r1"
    for leftover in ("checkpoint", "candidate"):
        (folder / leftover).mkdir(parents=True)
        (folder / leftover / "model.safetensors").write_bytes(b"tensors")
    (folder / "job.json").write_text("{}")
    outcome = round_close.close(rig.context, "r1", "stopped", ("enough",), {"steps": 3})
    assert (outcome.outcome, outcome.steps, outcome.gross_joules) == ("stopped", 3, 0.0)
    assert [path.name for path in folder.iterdir()] == ["job.json"]


def go_on(rig: Rig) -> list[Outcome]:
    """What the next start makes of it."""
    again = Rig(rig.paths, rig.store, rig.context.config)
    again.procedure.recover()
    return [again.procedure.resume(row) for row in again.procedure.interrupted()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "step", "outcome"),
    [
        (CONFIG, "switch", "promoted"),  # before the candidate went live
        (CONFIG, "_close", "promoted"),  # after it
        (STRICT, "_close", "rejected"),
    ],
)
def test_a_crash_after_the_verdict_neither_trains_again_nor_forgets_the_version(
    *,
    paths: StatePaths,
    store: Store,
    add_street: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    config: Config,
    step: str,
    outcome: str,
) -> None:
    add_street(store, 24)
    rig = Rig(paths, store, config)
    monkeypatch.setattr(rig.procedure, step, cut)
    # Joules that nobody measured are paid for, too.
    monkeypatch.setattr(rig.budget, "charge", lambda used: used.gross_joules + 1.0)
    with pytest.raises(PowerCut):
        rig.round()
    # A state that could be gone on from is there as well: what was judged is judged.
    (round_folder,) = paths.rounds.glob("2*")
    (round_folder / "checkpoint").mkdir(exist_ok=True)
    (round_folder / "checkpoint" / "complete").touch()

    (found,) = go_on(rig)
    assert (found.outcome, found.version) == (outcome, "v0002")
    assert rig.versions.names() == ["v0001", "v0002"]
    pointer = rig.versions.pointer()
    assert pointer is not None
    assert pointer.version == ("v0002" if outcome == "promoted" else "v0001")
    statuses = {row["version"]: row["status"] for row in rig.rows("select version, status from versions")}
    assert statuses["v0002"] == ("live" if outcome == "promoted" else "rejected")
    (row,) = rig.rows("select * from rounds")
    (entry,) = rig.rows("select * from ledger")
    assert (row["outcome"], row["candidate"]) == (outcome, "v0002")
    assert row["miou_after"] == found.miou_after is not None
    assert (row["gross_joules"], row["joules"]) == (entry["settled_joules"], entry["attributed_joules"])
    assert {r["rounds_used"] for r in rig.rows("select rounds_used from samples where split = 'train'")} == {
        1
    }
    assert (paths.models / "probation.json").exists() == (outcome == "promoted")
    assert go_on(rig) == []


@pytest.mark.slow
def test_a_candidate_whose_parent_is_not_live_any_more_stays_a_candidate(
    paths: StatePaths, store: Store, add_street: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_street(store, 24)
    rig = Rig(paths, store, CONFIG)
    assert rig.round().version == "v0002"
    add_street(store, 24, start=100)
    monkeypatch.setattr(rig.procedure, "switch", cut)
    with pytest.raises(PowerCut):
        rig.round()
    rig.versions.make_live("v0001", reason="v0002 does not load", away_from="damaged")
    (found,) = go_on(rig)
    assert (found.outcome, found.version) == ("failed", "v0003")
    assert "v0002 is not live any more" in found.reasons[0]
    (row,) = rig.rows("select status from versions where version = 'v0003'")
    assert row["status"] == "candidate"
