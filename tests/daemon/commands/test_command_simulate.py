from __future__ import annotations

from pathlib import Path

import pytest
from sqlite_utils import Database

from dance_ondevice.daemon.system.state import StatePaths

START = 20_000 * 86_400.0


@pytest.fixture
def stream(database: Database) -> None:
    """Two hours with a labelled sample every 20 seconds."""
    database["samples"].insert_all(
        {
            "id": f"s{number}",
            "camera": "front",
            "seq": number,
            "captured_at": START + 20 * number,
            "received_at": START + 20 * number,
            "path": f"{number}.png",
            "format": "png",
            "width": 64,
            "height": 48,
            "native_width": 64,
            "native_height": 48,
            "bytes": 1,
            "digest": "d",
            "received_digest": "d",
            "score": 0.5,
            "quantile": 0.5,
            "scale": 1.0,
            "weight": 1.0,
            "reason": "",
            "label_path": "l.png",
        }
        for number in range(360)
    )


def test_another_budget_is_replayed(run, run_json, paths: StatePaths, stream: None, tmp_path: Path):
    picture = tmp_path / "budget.svg"
    args = ("simulate", "--state-dir", str(paths.root), "--days", "3", "--budget")
    answer = run_json(*args, "9000", "--plot", str(picture))
    assert (answer["days"], answer["arrived"], len(answer["by_day"])) == (3, 3 * 360, 3)
    assert answer["rounds"] > 0
    assert 0 < answer["most_joules_on_a_day"] <= 9000
    assert answer == run_json(*args, "9000")
    assert picture.read_text().startswith("<svg ")
    png = str(tmp_path / "budget.png")
    assert "does not end in .svg" in run(*args, "9000", "--plot", png, code=2).stderr

    output = run(*args, "400").stdout
    assert "Simulated days at 400 J a day" in output
    assert "too few joules" in output
    assert "its cost is assumed" in output


def test_too_few_samples_for_a_round_are_told(run, paths: StatePaths, stream: None):
    args = ("simulate", "--state-dir", str(paths.root), "--days", "2", "--min-new-samples", "5000")
    assert "no round was due: that takes 5000 new labelled samples" in run(*args).stdout


def test_nothing_stored_is_told(run, paths: StatePaths, database: Database):
    errors = run("simulate", "--state-dir", str(paths.root), code=1).stderr
    assert "no labelled sample to train on is stored" in errors
    assert "dance-ondevice samples export" in errors


def test_a_window_that_is_none_is_a_configuration_error(run, paths: StatePaths, stream: None):
    run("simulate", "--state-dir", str(paths.root), "--window", "tonight", code=78)
