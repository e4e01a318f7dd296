"""``bench service``: its counters, its page, and one small run of two real builds."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from dance_ondevice.benchmarks import tables
from dance_ondevice.benchmarks.service import builds, run, scenes
from dance_ondevice.benchmarks.service.command import service
from dance_ondevice.benchmarks.service.counters import cpu_time
from dance_ondevice.benchmarks.service.daemons import Config


def test_cpu_time_of_ended_children_stands_apart(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    # utime 100, stime 50, cutime 20, cstime 10, behind a name with a bracket and a blank.
    fields = " ".join(["S", *["1"] * 10, "100", "50", "20", "10", "0"])
    (folder / "stat").write_text(f"7 (a) b) {fields}\n")
    found = cpu_time(7, tmp_path)
    assert found.own == pytest.approx(5 * found.children)
    assert found.children > 0
    assert (found - found).own == 0


def test_nothing_moves_before_a_standing_camera_in_the_quiet_time() -> None:
    frames = scenes.standing(80, 2.0, (48, 64))
    labels = [frame.label.tobytes() for frame in frames]
    assert len(set(labels[24:])) == 1
    assert len(set(labels[:24])) > 12
    thin = scenes.thin(10, 2.0, (48, 64))
    assert len({frame.label.tobytes() for frame in thin}) > 1


def test_a_revision_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    monkeypatch.setattr(builds, "HERE", tmp_path)
    done = CliRunner().invoke(service, ["--against", "nowhere"])
    assert done.exit_code == 1
    assert "git worktree add" in done.output
    done = CliRunner().invoke(service, ["--python", sys.executable])
    assert done.exit_code == 2
    assert "--against" in done.output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_builds_are_measured_by_their_own_counters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same build twice: no commit of the repository need be there, nor anything be installed.
    monkeypatch.setattr(builds, "other_build", lambda *_, **__: _Same())
    monkeypatch.setattr(run, "STORED", {"at 0.5": run.STORED["at 0.5"]})
    monkeypatch.setattr(run, "Plan", partial(run.Plan, size=(240, 320)))
    serving = run._Bench._serving

    def in_torch(bench: run._Bench, *, reuse: bool = False) -> Config:
        """No engine has to be exported for."""
        found = dict(serving(bench, reuse=reuse))
        return {**found, "inference": {**found["inference"], "engine": "torch"}}

    monkeypatch.setattr(run._Bench, "_serving", in_torch)
    out = tmp_path / "service.json"
    options = {"--minutes": 0.1, "--standing-seconds": 0, "--frames": 60, "--turns": 1, "--starts": 1}
    arguments = [str(part) for option in options.items() for part in option]
    done = CliRunner().invoke(service, ["--against", "same", *arguments, "--out", str(out)])
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    driving = report["scenes"][0]
    for side in (driving["here"], driving["there"]):
        assert side["sent"] == 12
        assert 0 < side["masks"] <= 12
        assert side["cpu_seconds"] > 0
        assert side["peak_mb"] >= side["resident_mb"] > 10
        assert 0 <= side["miou"] <= 1
    assert driving["cpu_ratio"] > 0
    assert [race["name"] for race in report["ingest"]] == ["at 0.5"]
    race = report["ingest"][0]
    assert race["here"]["kept_share"] == race["there"]["kept_share"] == 1
    assert race["loop"]["cpu_ms"] > 0
    assert report["ready_here"]["seconds"] > 0
    assert "a driving camera" in tables.render(tmp_path)
    assert out.with_suffix(".svg").is_file()


class _Same:
    def __enter__(self) -> builds.Build:
        return builds.this_build()

    def __exit__(self, *_: object) -> None:
        pass
