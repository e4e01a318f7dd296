"""What happens on real sites: clocks that jump, files that break, cameras that go, states that move."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from daemon_process import Camera, Daemon
from moved_clock import MovedClock

pytestmark = pytest.mark.slow

DAY = 86_400.0


def test_ticks_go_on_through_jumps_of_the_wall_clock_in_either_direction(tmp_path: Path) -> None:
    clock = MovedClock(tmp_path)
    daemon = Daemon(tmp_path)
    text = daemon.config.read_text().replace('interval = "1h"', 'interval = "2s"\nmin_new_samples = 1000')
    daemon.config.write_text(text.replace("[data_slimming]", "[data_slimming]\ndrop_fraction = 0.0"))
    clock.set(-time.time() + 100.0)  # a board without a battery: 1970
    daemon.start(**clock.environ)
    camera, second = (Camera(daemon.facts["ingest"][0]) for _ in range(2))
    try:
        sent = 0

        def tick() -> dict[str, Any]:
            """Wait until the schedule has seen what was labelled since it looked last."""
            nonlocal sent
            before = daemon.ask("status")["rounds"]["waiting_for"]
            for index in range(sent, sent + 6):
                camera.send(index)
            sent += 6
            return daemon.wait_until(lambda s: "of 1000" in s["rounds"]["waiting_for"] != before)

        status = tick()
        assert status["cameras"]["front"]["ahead_s"] > 50 * 365 * DAY
        assert any("ahead of this board's clock" in warning for warning in status["warnings"])
        for moved in (0.0, -3600.0, -DAY, 30 * DAY, -400 * DAY, 0.0):
            clock.set(moved)
            status = tick()
        assert status["cameras"]["front"]["ahead_s"] == 0.0
        assert abs(status["cameras"]["front"]["last_frame_at"] - time.time()) < 600
        rss = (
            (Path("/proc") / str(daemon.running.pid) / "status").read_text().partition("VmRSS:")[2].split()[0]
        )
        assert int(rss) < 400_000, "missed runs are not listed one by one"
        assert daemon.log.read_text().count("wall clock was set") == 6
        for index in range(sent, sent + 4):
            for sender in (camera, second):
                sender.send(index)
        assert any("under the camera name front" in each for each in daemon.ask("status")["warnings"])
        assert daemon.stop() == 0
    finally:
        camera.close()
        second.close()
        daemon.stop()


def test_a_damaged_file_is_named_and_removed_and_the_state_moves(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.start()
    camera = Camera(daemon.facts["ingest"][0])
    (tmp_path / "other").mkdir()
    other = Daemon(tmp_path / "other")
    try:
        for index in range(30):
            camera.send(index)
        refused = camera.send(30, v=7)
        assert not refused["ok"]
        (warning,) = daemon.ask("status")["warnings"]
        assert warning.startswith("1 frame was refused lately, the last")
        assert warning.endswith(refused["error"])
        stored = sorted((daemon.state / "samples").rglob("*.jpg"))
        stored[3].write_bytes(stored[3].read_bytes()[:300])
        stored[5].unlink()
        done = daemon.run_cli("train-now", "--wait", "--json")
        assert done.returncode == 0, done.stdout + done.stderr + daemon.log.read_text()
        status = daemon.wait_until(lambda s: s["rounds"]["last"])
        assert status["rounds"]["last"]["outcome"] in {"promoted", "rejected"}, status["rounds"]["last"]
        assert status["samples"]["unreadable"] == 2
        (warning,) = [text for text in status["warnings"] if "cannot be read" in text]
        assert "samples purge --unreadable" in warning
        checks = json.loads(daemon.run_cli("doctor", "--json", "--config", str(daemon.config)).stdout)
        (check,) = [check for check in checks if check["name"] == "samples"]
        assert check["status"] == "warning"
        assert stored[3].stem in check["detail"]

        purged = daemon.run_cli("samples", "purge", "--unreadable", "--yes", "--json")
        assert json.loads(purged.stdout)["removed"] == 2
        assert daemon.ask("status")["samples"]["unreadable"] == 0
        assert not stored[3].exists()

        # The state moves to another folder while this one is in use, and goes on there.
        made = daemon.run_cli("backup", str(tmp_path / "site.tar"), "--json")
        assert json.loads(made.stdout)["samples"] == len(stored) - 2, made.stderr
        refused = daemon.run_cli("restore", str(tmp_path / "site.tar"))
        assert refused.returncode == 1
        assert "in use" in refused.stderr
        assert other.run_cli("restore", str(tmp_path / "site.tar")).returncode == 0
        other.start()
        there = other.ask("status")
        here = daemon.ask("status")
        assert there["samples"]["labelled"] == here["samples"]["labelled"]
        assert there["version"] == here["version"]
        assert set(there["cameras"]) == {"front"}, "known from what is stored"

        # A camera that is removed is forgotten, with its samples and its series.
        assert daemon.run_cli("samples", "purge", "--camera", "front", "--yes").returncode == 0
        assert daemon.ask("status")["cameras"] == {}
    finally:
        camera.close()
        for each in (daemon, other):
            if each.process is not None:
                assert each.stop() == 0
