from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import made_up_demo as made_up
import pytest
from click.testing import CliRunner

from dance_ondevice.daemon.cli import main
from dance_ondevice.demo import command
from dance_ondevice.demo.reporting.report import DemoReport
from dance_ondevice.demo.run import DemoOptions
from dance_ondevice.demo.workspace import Workspace

SHORT = made_up.report(phases=(made_up.phase("dusk", "dusk", 0.4, 0.4, rounds=1, capped=True),))


class Runs:
    """Stands in for the four minutes of ``run_demo``."""

    def __init__(self, result: DemoReport | BaseException) -> None:
        self.result = result
        self.options: DemoOptions | None = None
        self.workspace: Path | None = None

    def __call__(self, options: DemoOptions, workspace: Workspace, _display: object) -> DemoReport:
        assert [path.name for path in workspace.root.iterdir()] in ([".demonstration"], [])
        for name in ("base", "pretraining", "state", "fresh"):
            (workspace.root / name).mkdir()
        workspace.config.touch()
        self.options, self.workspace = options, workspace.root
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    monkeypatch.chdir(tmp_path)
    found = Runs(made_up.report())
    monkeypatch.setattr(command, "run_demo", found)
    return found


def test_success(runs: Runs) -> None:
    result = CliRunner().invoke(main, ["demo", "--out", "somewhere", "--seed", "7", "--max-seconds", "100"])

    assert result.exit_code == 0
    assert "all conditions met" in result.stdout
    assert runs.options == DemoOptions(seed=7, max_seconds=100.0, out=Path("somewhere"))


def test_failed_condition_is_named_and_exits_1(runs: Runs) -> None:
    runs.result = made_up.report(masks_received=0)
    result = CliRunner().invoke(main, ["demo"])

    assert result.exit_code == 1
    assert "failed: no mask came back" in result.stdout


def test_a_shortfall_is_said_and_exits_0(runs: Runs) -> None:
    runs.result = SHORT
    result = CliRunner().invoke(main, ["demo"])

    assert result.exit_code == 0
    assert "fell short: on dusk the live model (0.400 mIoU) does not beat" in result.stdout
    assert "--max-seconds 960" in result.stdout
    assert "all conditions met" not in result.stdout


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_strict_run_ends_with_1_for_a_shortfall(runs: Runs, more: list[str]) -> None:
    assert CliRunner().invoke(main, ["demo", "--strict", *more]).exit_code == 0
    runs.result = SHORT
    assert CliRunner().invoke(main, ["demo", "--strict", *more]).exit_code == 1
    assert CliRunner().invoke(main, ["demo", *more]).exit_code == 0


def test_failed_condition_goes_beside_json(runs: Runs) -> None:
    runs.result = made_up.report(masks_received=0)
    result = CliRunner().invoke(main, ["demo", "--json"])

    assert result.exit_code == 1
    assert json.loads(result.stdout)["passed"] is False
    assert "no mask came back" in result.stderr


def test_json_alone_goes_to_standard_output(runs: Runs) -> None:
    result = CliRunner().invoke(main, ["demo", "--json"])

    assert json.loads(result.stdout)["masks_received"] == 944


def test_what_it_learnt_stays_until_the_next_one(runs: Runs) -> None:
    for _ in range(2):
        result = CliRunner().invoke(main, ["demo", "--out", "some where"])

        assert runs.workspace == Path("some where/demo").resolve()
        assert {p.name for p in runs.workspace.iterdir()} == {".demonstration", "base", "demo.toml", "state"}
        assert "demo --console --out 'some where'" in result.stdout


def test_one_that_fails_or_is_killed_leaves_what_was_there(runs: Runs) -> None:
    CliRunner().invoke(main, ["demo"])
    assert runs.workspace is not None
    learnt = runs.workspace / "state" / "learnt"
    learnt.touch()
    worked, runs.result = runs.result, RuntimeError("no frame came")
    assert CliRunner().invoke(main, ["demo"]).exit_code == 1
    assert learnt.exists()
    # Killed: nothing was tidied.
    before = runs.workspace.rename(runs.workspace.with_name(".demo-before"))
    shutil.copytree(before, runs.workspace)
    (runs.workspace / "state" / "learnt").unlink()
    assert CliRunner().invoke(main, ["demo"]).exit_code == 1
    assert learnt.exists()
    runs.result = worked
    assert CliRunner().invoke(main, ["demo"]).exit_code == 0
    assert not learnt.exists()
    assert sorted(p.name for p in runs.workspace.parent.iterdir()) == ["demo"]


def test_another_ones_folder_is_left_alone(runs: Runs) -> None:
    mine = Path("mine/demo/state/models")
    mine.mkdir(parents=True)
    for name in ("state", "thesis.tex"):
        result = CliRunner().invoke(main, ["demo", "--out", "mine"])

        assert result.exit_code == 1
        assert f"{name}, which no demonstration wrote: give another folder with --out" in result.stderr
        Path("mine/demo/.demonstration").touch()
        Path("mine/demo/thesis.tex").write_text("years of work")
    assert mine.is_dir()
    assert runs.workspace is None


def test_workspace_can_be_kept(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(main, ["demo", "--keep"])

    assert runs.workspace is not None
    assert runs.workspace.parent == tmp_path
    assert (runs.workspace / "state").exists()
    assert str(runs.workspace) in result.stdout


def test_the_console_wants_a_demonstration(runs: Runs) -> None:
    result = CliRunner().invoke(main, ["demo", "--console"])

    assert result.exit_code == 1
    assert "demo-report has no demonstration to look at: run `dance-ondevice demo` first" in result.stderr


@pytest.mark.parametrize("error", [OSError("disk is gone"), RuntimeError("disk is gone")])
def test_what_went_wrong_is_said(runs: Runs, error: Exception) -> None:
    runs.result = error
    result = CliRunner().invoke(main, ["demo"])

    assert result.exit_code == 1
    assert "disk is gone" in result.stderr
    assert runs.workspace is not None
    assert not runs.workspace.exists()


def test_sigterm_cleans_up_like_ctrl_c(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def terminated(_options: DemoOptions, workspace: Workspace, _display: object) -> DemoReport:
        runs.workspace = workspace.root
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal was lost")

    monkeypatch.setattr(command, "run_demo", terminated)
    result = CliRunner().invoke(main, ["demo"])

    assert result.exit_code == 130
    assert runs.workspace is not None
    assert not runs.workspace.exists()
    assert signal.getsignal(signal.SIGTERM) is before
