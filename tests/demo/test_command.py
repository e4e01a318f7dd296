from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import made_up
import pytest
from click.testing import CliRunner

from dance_ondevice.daemon.cli import main
from dance_ondevice.demo import command
from dance_ondevice.demo.report import DemoReport
from dance_ondevice.demo.run import DemoOptions

SHORT = made_up.report(phases=(made_up.phase("dusk", "dusk", 0.4, 0.4, rounds=1, capped=True),))


class Runs:
    """Stands in for the four minutes of ``run_demo``."""

    def __init__(self, result: DemoReport | BaseException) -> None:
        self.result = result
        self.options: DemoOptions | None = None
        self.workspace: Path | None = None

    def __call__(self, options: DemoOptions, workspace: Path, _display: object) -> DemoReport:
        assert workspace.is_dir()
        (workspace / "something").write_text("temporary")
        self.options, self.workspace = options, workspace
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
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


def test_workspace_is_removed(runs: Runs) -> None:
    CliRunner().invoke(main, ["demo"])

    assert runs.workspace is not None
    assert not runs.workspace.exists()


def test_workspace_can_be_kept(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(main, ["demo", "--keep"])

    assert runs.workspace is not None
    assert (runs.workspace / "something").exists()
    assert str(runs.workspace) in result.stderr


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

    def terminated(_options: DemoOptions, workspace: Path, _display: object) -> DemoReport:
        runs.workspace = workspace
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal was lost")

    monkeypatch.setattr(command, "run_demo", terminated)
    result = CliRunner().invoke(main, ["demo"])

    assert result.exit_code == 130
    assert runs.workspace is not None
    assert not runs.workspace.exists()
    assert signal.getsignal(signal.SIGTERM) is before
