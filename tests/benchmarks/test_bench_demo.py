"""`bench demo`: many demonstrations, and what became of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dance_ondevice.benchmarks.demo_runs import command
from dance_ondevice.benchmarks.demo_runs.report import DemoRun, read_run
from dance_ondevice.benchmarks.tables import render
from dance_ondevice.daemon.cli import main

REPORT = {
    "seed": 1,
    "pretraining_epochs": 9,
    "rounds": [{"outcome": "promoted"}, {"outcome": "promoted"}, {"outcome": "rejected"}],
    "phases": [{"name": "dusk", "gain": {"point": 0.1, "lower": 0.08, "upper": 0.12}}],
    "shortcomings": [],
    "notes": ["rain ended when its time was over"],
}


def test_each_run_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(seed: int, max_seconds: float) -> DemoRun:
        told = {**REPORT, "seed": seed} if seed == 1 else {"seed": seed}
        return read_run(told, status=seed - 1, seconds=max_seconds, load=(4.0, 6.2))

    monkeypatch.setattr(command, "_run", run)
    file = tmp_path / "demo.json"
    arguments = ["bench", "demo", "--runs", "2", "--busy", "1", "--max-seconds", "100", "--out", str(file)]
    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 0, result.output
    assert json.loads(file.read_text())["runs"][0]["rounds"] == {"promoted": 2, "rejected": 1}
    page = render(tmp_path)
    assert "1 of 2 ended with status 0" in page
    assert "| 1 | 0 | 100 | 4 - 6 | 9 | 2 of 3 | +0.100 (+0.080 to +0.120) | all conditions met |" in page
    assert "| 2 | 1 | 100 | 4 - 6 | 0 | 0 of 0 | - | no report |" in page
