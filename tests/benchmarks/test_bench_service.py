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
from dance_ondevice.benchmarks.predict import run as predicting
from dance_ondevice.benchmarks.predict.report import EngineTime, Served
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
    beside = predicting.Boards((_served(20.0), _served(22.0), _served(25.0)), "torch", ["promoted"])
    monkeypatch.setattr(predicting, "beside_rounds", lambda *_, **__: beside)
    engines = [_engine("dense", 1.0, 0.4), _engine("slimmed", 1.0, 0.2), _engine("slimmed", 0.75, 0.1)]
    # The engines run the model as far slimmed as the daemon's.
    monkeypatch.setattr(run, "compare", lambda *_, share, **__: engines if share == 0.6 else [])
    options = {"--minutes": 0.1, "--standing-seconds": 0, "--frames": 60, "--turns": 1, "--starts": 1}
    options |= {"--passes": 2, "--rounds": 1, "--share": 0.6}
    arguments = [str(part) for option in options.items() for part in option]
    done = CliRunner().invoke(service, ["--against", "same", *arguments, "--out", str(out)])
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    # The names that other programs read.
    assert report["against"]
    assert report["p99_beside_round"] == 1.25
    assert report["predict"] == {"onnxruntime": {"1.0": 0.2, "0.75": 0.1}}
    assert report["rss_bytes"]["highest"] >= report["rss_bytes"]["median"] > 1e7
    assert report["ready_seconds"] == report["ready_here"]["seconds"] > 0
    driving = report["scenarios"]["camera"]
    assert driving["miou_delta"] == driving["here"]["miou"] - driving["there"]["miou"]
    for side in (driving["here"], driving["there"]):
        assert side["sent"] == 12
        assert 0 < side["masks"] <= 12
        assert side["cpu_seconds"] > 0
        assert side["peak_mb"] >= side["resident_mb"] > 10
        assert 0 <= side["miou"] <= 1
    assert driving["cpu_ratio"] > 0
    assert report["ingest"]["of_bare_loop"] == {}
    (race,) = report["ingest"]["races"]
    assert race["name"] == "at 0.5"
    assert report["ingest"]["kept_cpu_ratio"] == {"0.5": race["kept_cpu_ratio"]}
    assert race["here"]["kept_share"] == race["there"]["kept_share"] == 1
    assert race["loop"]["frames_per_second"] > 0  # its frames may take less than a tick of the CPU clock
    assert "a driving camera" in tables.render(tmp_path)
    assert out.with_suffix(".svg").is_file()


def _served(p99: float) -> Served:
    return Served(
        name="", sent=1, masks=1, lost=0, latency_ms={"99": p99}, versions=["v0000"], round_share=0.0
    )


def _engine(model: str, scale: float, ratio: float) -> EngineTime:
    return EngineTime(
        name="onnxruntime", model=model, scale=scale, threads=1, ms={}, cpu_ms=1.0, cpu_ratio=ratio,
        miou=0.5, miou_exact=0.5, agreement=1.0,
    )  # fmt: skip


class _Same:
    def __enter__(self) -> builds.Build:
        return builds.this_build()

    def __exit__(self, *_: object) -> None:
        pass
