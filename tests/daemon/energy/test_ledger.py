from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_entries import spent_since
from sqlite_utils import Database

from dance_ondevice.daemon.energy import ledger
from dance_ondevice.daemon.energy.ledger import LedgerError
from dance_ondevice.daemon.store.schema import migrate

DAY = 86_400.0


@pytest.fixture
def db() -> Iterator[Database]:
    with fresh() as made:
        yield made


def fresh() -> Database:
    made = Database(memory=True)
    migrate(made)
    return made


def reserve(db: Database, round_id: str = "r1", joules: float = 100.0, now: float = 1000.0) -> None:
    ledger.reserve(db, round_id, joules, "boot", 5.0, now)


def test_a_round_reserves_then_settles(db: Database) -> None:
    reserve(db)
    assert spent_since(db, 0.0) == 100.0
    ledger.settle(db, "r1", 80.0, 30.0, "modelled", 1060.0)
    (row,) = db["ledger"].rows
    assert row == {
        "id": 1,
        "round_id": "r1",
        "reserved_joules": 100.0,
        "settled_joules": 80.0,
        "attributed_joules": 30.0,
        "method": "modelled",
        "opened_at": 1000.0,
        "closed_at": 1060.0,
        "boot_id": "boot",
        "opened_monotonic": 5.0,
    }
    assert spent_since(db, 0.0) == 80.0


def test_one_open_entry_a_round(db: Database) -> None:
    reserve(db)
    with pytest.raises(LedgerError, match="r1 has reserved joules already"):
        reserve(db)
    ledger.settle(db, "r1", 60.0, None, "modelled", 1060.0)
    reserve(db, joules=40.0)  # an interrupted round goes on
    assert spent_since(db, 0.0) == 100.0


def test_settling_needs_an_open_entry(db: Database) -> None:
    with pytest.raises(LedgerError, match="r1 has no open reservation"):
        ledger.settle(db, "r1", 1.0, 1.0, "modelled", 0.0)
    reserve(db)
    ledger.settle(db, "r1", 1.0, 1.0, "modelled", 0.0)
    with pytest.raises(LedgerError, match="no open reservation"):
        ledger.settle(db, "r1", 1.0, 1.0, "modelled", 0.0)


@pytest.mark.parametrize("gross", [None, math.nan])
def test_an_unknown_figure_is_the_whole_reservation_never_nothing(db: Database, gross: float | None) -> None:
    reserve(db)
    ledger.settle(db, "r1", gross, gross, "counter", 1060.0)
    (row,) = db["ledger"].rows
    assert row["settled_joules"] == 100.0
    assert row["attributed_joules"] is None


@pytest.mark.parametrize("joules", [-1.0, math.inf, math.nan])
def test_impossible_amounts_are_refused(db: Database, joules: float) -> None:
    with pytest.raises(LedgerError, match="finite and not negative"):
        reserve(db, joules=joules)
    with pytest.raises(LedgerError, match="finite and not negative"):
        ledger.add_energy(db, "2026-01-01", "training", "rapl", "counter", joules)
    assert spent_since(db, 0.0) == 0.0


def test_what_a_crash_left_open_is_settled_in_full(db: Database) -> None:
    for round_id in ("r1", "r2", "r3"):
        reserve(db, round_id)
    ledger.settle(db, "r2", 10.0, 5.0, "counter", 1010.0)
    crashed = ledger.settle_crashed(db, 2000.0)
    assert [(c.round_id, c.joules, c.opened_at) for c in crashed] == [
        ("r1", 100.0, 1000.0),
        ("r3", 100.0, 1000.0),
    ]
    assert spent_since(db, 1500.0) == 200.0
    assert ledger.settle_crashed(db, 3000.0) == []
    assert {row["method"] for row in db["ledger"].rows_where("round_id != 'r2'")} == {"reserved"}


def test_only_what_was_closed_since_or_is_open_counts(db: Database) -> None:
    reserve(db, "old", now=0.0)
    ledger.settle(db, "old", 50.0, 1.0, "counter", 100.0)
    reserve(db, "long", now=0.0)
    ledger.settle(db, "long", 20.0, 1.0, "counter", 500.0)
    reserve(db, "open", 7.0, now=0.0)
    assert spent_since(db, 200.0) == 27.0
    assert spent_since(db, 100.0) == 77.0


def test_a_days_energy_adds_up(db: Database) -> None:
    for joules in (1.5, 2.5):
        ledger.add_energy(db, "2026-01-01", "training", "rapl", "counter", joules)
    ledger.add_energy(db, "2026-01-02", "training", "rapl", "counter", 1.0)
    ledger.add_energy(db, "2026-01-01", "training", "model", "modelled", 1.0)
    assert [row["joules"] for row in db.query("SELECT joules FROM energy ORDER BY day, source")] == [
        1.0,
        4.0,
        1.0,
    ]


def test_no_account_before_the_first_save(db: Database) -> None:
    assert ledger.load_budget(db, "boot", 0.0, 0.0, DAY) is None


@pytest.mark.parametrize(
    ("boot", "monotonic", "now", "elapsed"),
    [
        ("boot", 160.0, 10_060.0, 60.0),
        ("boot", 160.0, 1e9, 60.0),  # the wall clock jumped within the boot
        ("boot", 160.0, 0.0, 60.0),
        ("boot", 100.0 + 3 * DAY, 10_000.0, DAY),
        ("other", 5.0, 10_060.0, 60.0),
        ("other", 5.0, 1e9, DAY),  # jumped by years
        ("other", 5.0, 0.0, 0.0),  # no real-time clock
        ("", 160.0, 10_030.0, 30.0),  # a kernel that does not tell its boots apart
        ("boot", 5.0, 10_040.0, 40.0),  # a monotonic clock that is not this boot's after all
    ],
)
def test_the_clock_that_can_be_trusted_tells_what_has_elapsed(
    db: Database, boot: str, monotonic: float, now: float, elapsed: float
) -> None:
    ledger.save_budget(db, -12.5, "boot", 100.0, 10_000.0)
    saved = ledger.load_budget(db, boot, monotonic, now, DAY)
    assert saved == ledger.SavedBudget(balance_joules=-12.5, elapsed_seconds=elapsed)


CLOCK = st.floats(-1e12, 1e12)


@pytest.mark.slow
@given(CLOCK, CLOCK, CLOCK, CLOCK, st.booleans())
def test_no_clock_refills_more_than_the_cap(
    saved_monotonic: float, saved_now: float, monotonic: float, now: float, same: bool
) -> None:
    with fresh() as db:
        ledger.save_budget(db, 1.0, "boot", saved_monotonic, saved_now)
        saved = ledger.load_budget(db, "boot" if same else "other", monotonic, now, DAY)
    assert saved is not None
    assert 0.0 <= saved.elapsed_seconds <= DAY


def test_saving_replaces(db: Database) -> None:
    ledger.save_budget(db, 1.0, "boot", 0.0, 0.0)
    ledger.save_budget(db, 2.0, "boot", 0.0, 0.0)
    assert db["budget"].count == 1
    with pytest.raises(LedgerError, match="finite"):
        ledger.save_budget(db, math.nan, "boot", 0.0, 0.0)


def test_the_boot_id_comes_from_procfs(tmp_path: Path) -> None:
    assert ledger.boot_id(tmp_path) == ""
    folder = tmp_path / "sys" / "kernel" / "random"
    folder.mkdir(parents=True)
    (folder / "boot_id").write_text("5ae2-77\n")
    assert ledger.boot_id(tmp_path) == "5ae2-77"
    (folder / "boot_id").write_bytes(b"\xff\xfe")
    assert ledger.boot_id(tmp_path) == ""
