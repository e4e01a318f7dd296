"""The console on what a demonstration left: real daemon, camera and console, without inference."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.demo import run
from dance_ondevice.demo.process import write_config
from dance_ondevice.demo.workspace import Workspace, last

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-m", "dance_ondevice", "demo", "--console")


@pytest.fixture
def left(tmp_path: Path) -> Workspace:
    """What a demonstration would have left in ``tmp_path``, without a model."""
    workspace = Workspace(tmp_path / "demo")
    workspace.state.mkdir(parents=True)
    values = run.configuration(Path())
    values["model"] = {"classes": values["model"]["classes"]}
    values["inference"] = {"enabled": False}
    write_config(workspace.config, values)
    (tmp_path / "report.json").write_text(json.dumps({"seed": 5}))
    assert last(tmp_path) == workspace
    return workspace


def test_daemon_camera_and_console_run_until_they_are_ended(left: Workspace, tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--out", str(tmp_path), "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline()
        root, _, token = address.strip().partition("?token=")
        with urllib.request.urlopen(f"{root}healthz", timeout=30) as answer:
            assert answer.read() == b"ok"
        assert token == StatePaths(left.state).console_token.read_text().strip()
        log = tmp_path / "daemon-console.log"
        samples = StatePaths(left.state).samples
        while not list(samples.rglob("*.jpg")):
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        process.send_signal(signal.SIGTERM)

        assert process.wait(60) == 0
    assert "Traceback" not in log.read_text()


def test_a_console_that_cannot_start_ends_it(left: Workspace, tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "dance_ondevice",
            "demo",
            "--console",
            "--out",
            tmp_path,
            "--listen",
            "nowhere",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ended.returncode == 1
    assert "the console ended with status 2" in ended.stderr
