from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dance_ondevice.benchmarks.step import run
from dance_ondevice.benchmarks.step.command import step


@pytest.mark.slow
def test_steps_of_two_builds_are_timed_in_turns(
    camvid_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"size": (64, 96), "batch_size": 2}
    monkeypatch.setattr(
        run,
        "CONFIGURATIONS",
        {"dense": run.Configuration(**small), "dance+": run.Configuration(macs_fraction=0.6, **small)},
    )
    monkeypatch.setattr(run, "_FULL", (64, 96))
    out = tmp_path / "step.json"
    options = ["--dataset", "camvid", "--root", str(camvid_tree), "--against", str(run.HERE)]
    done = CliRunner().invoke(step, [*options, "--epochs", "1", "--precision", "fp32", "--out", str(out)])
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    assert report["ratios"].keys() == report["here"].keys() == report["there"].keys() == {"dense", "dance+"}
    assert all(cost["ms_an_image"] > 0 for cost in report["here"].values())
    assert report["macs_ratio"]["dense"] == 1.0


def test_a_build_that_is_not_there_is_refused(camvid_tree: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    done = CliRunner().invoke(step, ["--dataset", "camvid", "--root", str(camvid_tree), "--against", missing])
    assert done.exit_code == 2
    assert "none" in done.output
