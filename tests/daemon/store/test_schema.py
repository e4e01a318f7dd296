from __future__ import annotations

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from dance_ondevice.daemon.energy import ledger
from dance_ondevice.daemon.store import schema
from dance_ondevice.daemon.store.schema import MIGRATION_SET, TABLES, migrate


def test_a_database_of_the_first_version_keeps_its_rows_and_gets_the_new_columns() -> None:
    with Database(memory=True) as db:
        first = Migrations(MIGRATION_SET)
        first(name="0001_initial")(schema._initial)
        first.apply(db)
        db["rounds"].insert({"id": "r1", "started_at": 1.0, "outcome": "promoted", "steps": 40})
        db.execute("INSERT INTO budget VALUES (1, 500.0, 1000.0, 'boot', 5.0)")
        migrate(db)
        migrate(db)
        (row,) = db["rounds"].rows
        assert (row["id"], row["expected_gain"], row["expected_joules"], row["step_pixels"]) == (
            "r1",
            None,
            None,
            None,
        )
        assert ledger.load_budget(db, "boot", 65.0, 0.0, 100.0) == ledger.SavedBudget(
            balance_joules=500.0, elapsed_seconds=60.0
        )
        assert set(TABLES) <= set(db.table_names())
