from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dance_ondevice.daemon.commands import access
from dance_ondevice.daemon.control import instances
from dance_ondevice.daemon.system.state import StatePaths

REPORT: dict[str, Any] = {
    "version": "v0002",
    "architecture": "fastscnn",
    "macs": 812_000_000,
    "paused": True,
    "frames": {"kept": 12, "dropped": 3},
    "samples": {"labelled": 8, "unlabelled": 4, "bytes": 2048},
    "inference": {"enabled": True, "masks": 15},
    "miou": {"gate": 0.4321},
    "rounds": {
        "running": None,
        "count": 1,
        "waiting_for": "waiting for new labelled samples",
        "last": {
            "round": "r1",
            "outcome": "promoted",
            "miou_before": 0.3,
            "miou_after": 0.4321,
            "joules": 120.0,
            "gross_joules": 150.0,
            "expected_gain": 0.0123,
            "expected_joules": 140.0,
            "method": "modelled",
        },
    },
    "energy": {
        "source": "cpu-model",
        "method": "modelled",
        "gross_joules": 512.0,
        "budget_joules": 19880.0,
        "workload_joules": {"training": 120.0},
    },
    "next_step": {"line": "paused by the user; next: dance-ondevice resume", "reasons": ["paused"]},
    "about_model": "the base model that comes along",
    "warnings": ["energy is modelled"],
}


def test_the_report_is_shown(run, run_json, serve, paths: StatePaths):
    serve({"status": lambda _: REPORT})
    args = ("status", "--state-dir", str(paths.root))
    assert run_json(*args) == REPORT
    output = run(*args).stdout
    for text in (
        "v0002 (fastscnn, 812 M MACs)\n",
        "  the base model that comes along\n",
        "kept 12, dropped 3",
        "bytes 2.0 KiB",
        "gate 0.4321",
        "1 since the start; at the last look: waiting for new labelled samples; paused",
        "r1 promoted, mIoU 0.3 -> 0.4321, 120 J (modelled), 150 J gross; expected +0.0123 for 140 J",
        "19880.0 J",
        "cpu-model (modelled)",
        "training 120 J",
        "warning: energy is modelled",
        "paused by the user; next: dance-ondevice resume",
    ):
        assert text in output


def test_a_daemon_that_has_nothing_to_tell_yet(run, serve, paths: StatePaths):
    serve({"status": lambda _: {"rounds": {"running": "r7", "step": 2, "steps": 9}}})
    output = run("status", "--state-dir", str(paths.root)).stdout
    assert "r7 runs, step 2 of 9" in output
    assert "inference is off" in output
    assert "not measured yet: that takes labels" in output


def test_without_a_daemon_it_says_how_to_start_one(run, paths: StatePaths):
    errors = run("status", "--state-dir", str(paths.root), code=1).stderr
    assert f"no daemon runs on {paths.root}; start" in errors
    assert f"`dance-ondevice run --state-dir {paths.root}`\n" in errors


def test_it_is_started_with_the_configuration_that_was_given(run, tmp_path: Path):
    """Without it, it would have other classes and other sockets."""
    config = tmp_path / "my site.toml"
    config.write_text('[daemon]\nstate_dir = "state"\n')
    for command in (("status",), ("watch",), ("labels", "import", str(tmp_path))):
        errors = run(*command, "--config", str(config), code=1).stderr
        assert f"no daemon runs on {tmp_path / 'state'}; start it with" in errors
        assert f"`dance-ondevice run --config '{config}'`" in errors


def test_the_service_is_started_by_systemd(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By hand, root's daemon would leave files in the folder that the service cannot write."""
    unit = tmp_path / "dance-ondevice.service"
    monkeypatch.setattr(access, "UNIT_FILE", unit)
    monkeypatch.setattr(instances, "running", lambda _: [])
    monkeypatch.setattr(instances, "read_daemon_file", lambda _: None)
    assert "`dance-ondevice run`, or name the folder of another one" in run("status", code=1).stderr
    unit.touch()
    assert "start it with `sudo systemctl start dance-ondevice`" in run("status", code=1).stderr


def test_a_daemon_that_was_killed_is_no_daemon(run, serve, paths: StatePaths):
    serve({"status": lambda _: REPORT})
    left = paths.daemon_file.read_text().replace("control.sock", "other.sock")
    paths.daemon_file.write_text(left)
    assert f"no daemon runs on {paths.root}" in run("status", "--state-dir", str(paths.root), code=1).stderr


def test_the_running_daemon_is_found_without_options(run_json, serve, paths: StatePaths, tmp_path: Path):
    serve({"status": lambda _: {"version": "found"}})
    instances.register(paths.root, "ipc:///unused", {"XDG_RUNTIME_DIR": str(tmp_path / "xdg")})
    assert run_json("status") == {"version": "found"}


def test_several_daemons_are_wrong_usage(run, monkeypatch: pytest.MonkeyPatch):
    found = [
        instances.Instance(pid=pid, start_time=1, state_dir=f"/srv/{pid}", control="ipc:///x")
        for pid in (1, 2)
    ]
    monkeypatch.setattr(instances, "running", lambda _: found)
    errors = run("status", code=2).stderr
    assert "/srv/1" in errors
    assert "/srv/2" in errors
    assert "--state-dir" in errors
