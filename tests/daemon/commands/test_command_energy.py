from __future__ import annotations

import csv

import pytest
from sqlite_utils import Database

from dance_ondevice.daemon.commands.energy import bar
from dance_ondevice.daemon.system.state import StatePaths


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
    told = run("energy", "--state-dir", str(paths.root)).stdout
    assert "no joules are on record yet" in told
    assert "Ledger" not in told


def chart(output: str) -> list[list[str]]:
    """The cells of the chart's lines."""
    lines = (line for line in output.split("Ledger", maxsplit=1)[0].splitlines() if line.startswith("│"))
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_the_chart_groups_by_day_sums_up_and_draws_to_one_scale(run, paths: StatePaths, database: Database):
    for day, workload, method, joules in (
        ("2026-01-02", "idle", "counter", 40.0),
        ("2026-01-02", "training", "counter", 80.0),
        ("2026-01-02", "training", "modelled", 0.1),
        ("2026-01-01", "training", "modelled", 20.0),
    ):
        database["energy"].insert(
            {"day": day, "workload": workload, "source": "s", "method": method, "joules": joules}
        )
    lines = chart(run("energy", "--state-dir", str(paths.root)).stdout)
    assert [line[:5] for line in lines] == [
        ["2026-01-02", "idle", "s", "counter", "40"],
        ["", "training", "s", "counter", "80"],
        ["", "training", "s", "modelled", "0.1"],
        ["", "all", "", "", "120.1"],
        ["2026-01-01", "training", "s", "modelled", "20"],
        ["", "all", "", "", "20"],
    ]
    assert [len(line[5]) for line in lines] == [16, 32, 1, 0, 8, 0]


def test_csv_has_every_row(run, paths: StatePaths, database: Database):
    fill(database)
    output = run("energy", "--csv", "--state-dir", str(paths.root)).stdout
    assert list(csv.DictReader(output.splitlines())) == [
        {
            "day": "2026-01-02",
            "workload": "ingest",
            "source": "cpu",
            "method": "modelled",
            "joules": "2.5",
        },
        {
            "day": "2026-01-01",
            "workload": "training",
            "source": "cpu",
            "method": "modelled",
            "joules": "10.0",
        },
    ]


def test_the_chart_shows_the_last_days_and_programs_get_all(
    run, run_json, paths: StatePaths, database: Database
):
    for day in range(1, 21):
        row = {"day": f"2026-01-{day:02}", "workload": "idle", "source": "s", "method": "counter"}
        database["energy"].insert({**row, "joules": 1.0})
    args = ("energy", "--state-dir", str(paths.root))
    shown = run(*args).stdout
    assert "2026-01-07" in shown
    assert "2026-01-06" not in shown
    assert len(run_json(*args)["days"]) == 20
    assert [row["day"] for row in run_json(*args, "--days", "2")["days"]] == ["2026-01-20", "2026-01-19"]
    assert len(run(*args, "--csv").stdout.splitlines()) == 21


def test_a_ledger_of_years_leaves_the_chart_in_sight(run, run_json, paths: StatePaths, database: Database):
    fill(database)
    row = next(database["ledger"].rows)
    of_the_last_day = 1_767_312_000.0  # 2026-01-02
    database["ledger"].insert_all(
        {**row, "id": 2 + n, "round_id": f"later-{n}", "closed_at": 1.0, "opened_at": of_the_last_day + n}
        for n in range(60)
    )
    args = ("energy", "--state-dir", str(paths.root))
    shown = run(*args).stdout
    assert "later-59" in shown
    assert "later-9 " not in shown
    assert "and 11 earlier rounds" in shown
    assert len(run_json(*args)["ledger"]) == 61
    assert len(run_json(*args, "--days", "1")["ledger"]) == 60
    shown = run(*args, "--days", "1").stdout
    assert "later-9 " in shown
    assert "r1" not in shown


def test_json_and_csv_exclude_each_other(run, paths: StatePaths, database: Database):
    result = run("energy", "--json", "--csv", "--state-dir", str(paths.root), code=2)
    assert "exclude each other" in result.stderr


@pytest.mark.parametrize(
    ("value", "most", "blocks", "plain"),
    [
        (0.0, 10.0, "", ""),
        (0.0, 0.0, "", ""),
        (10.0, 10.0, "████", "####"),
        (5.0, 10.0, "██", "##"),
        (5.3125, 10.0, "██▏", "##"),
        (7.1875, 10.0, "██▉", "###"),
        (0.001, 10.0, "▏", "#"),
    ],
)
def test_a_bar_is_as_long_as_its_share(value: float, most: float, blocks: str, plain: str):
    assert bar(value, most, ascii_only=False, width=4) == blocks
    assert bar(value, most, ascii_only=True, width=4) == plain
