from __future__ import annotations

from sqlite_utils import Database

from dance_ondevice.daemon.state import StatePaths


def fill(database: Database) -> None:
    for day, workload, joules in (("2026-01-01", "training", 10.0), ("2026-01-02", "ingest", 2.5)):
        database["energy"].insert(
            {"day": day, "workload": workload, "source": "cpu", "method": "modelled", "joules": joules}
        )
    database["ledger"].insert(
        {
            "round_id": "r1",
            "reserved_joules": 50.0,
            "settled_joules": 44.0,
            "attributed_joules": 30.0,
            "method": "modelled",
            "opened_at": 1_700_000_000.0,
            "closed_at": None,
            "boot_id": "b",
            "opened_monotonic": 1.0,
        }
    )


def test_joules_by_day_and_the_ledger(run, run_json, paths: StatePaths, database: Database):
    fill(database)
    args = ("energy", "--state-dir", str(paths.root))
    answer = run_json(*args)
    assert answer["days"] == [
        {"day": "2026-01-02", "workload": "ingest", "source": "cpu", "method": "modelled", "joules": 2.5},
        {"day": "2026-01-01", "workload": "training", "source": "cpu", "method": "modelled", "joules": 10.0},
    ]
    assert answer["ledger"][0]["round_id"] == "r1"
    assert answer["ledger"][0]["settled_joules"] == 44.0
    output = run(*args).stdout
    for text in ("2026-01-02", "modelled", "2.5", "r1", "44"):
        assert text in output


def test_nothing_spent_yet(run, run_json, paths: StatePaths, database: Database):
    assert run_json("energy", "--state-dir", str(paths.root)) == {"days": [], "ledger": []}
    assert "Ledger" in run("energy", "--state-dir", str(paths.root)).stdout
