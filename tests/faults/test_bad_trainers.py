"""A trainer that hangs, has no memory or spews output: the daemon ends the round, says why, and lives on."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_process import Camera, Daemon
from senders import Promises, audit, check_live_model

from dance_ondevice.daemon.children.bounded_log import LIMIT

LIMITED = 'max_round_duration = "10s"'

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def mode(tmp_path: Path) -> Path:
    path = tmp_path / "mode"
    path.write_text("")
    return path


@pytest.fixture
def daemon(tmp_path: Path, mode: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path, inference=True)
    text = daemon.config.read_text()
    text = text.replace("[model]\n", '[model]\nfactory = "bad_models:misbehaving"\n')
    daemon.config.write_text(text.replace("epochs = 1", 'epochs = 1\nmax_round_duration = "90s"'))
    search = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    daemon.start(PYTHONPATH=search, DANCE_BAD_MODEL=str(mode))
    yield daemon
    daemon.stop(signal.SIGKILL)


def test_the_round_ends_the_daemon_does_not(daemon: Daemon, mode: Path) -> None:
    camera = Camera(daemon.facts["ingest"][0])
    with contextlib.closing(camera):
        for index in range(24):
            assert camera.send(index)["ok"]
        rounds = 0
        for how, outcomes, reason in (
            ("memory", {"failed"}, "memory"),
            ("spew", {"promoted", "rejected", "stopped"}, ""),
            ("hang", {"stopped"}, "longer than training.max_round_duration"),
        ):
            mode.write_text(how)
            if how == "hang":  # nothing comes of waiting longer; the others may take their time
                config = daemon.config.read_text()
                daemon.config.write_text(config.replace('max_round_duration = "90s"', LIMITED))
                assert daemon.run_cli("config", "reload").returncode == 0
            daemon.ask("train_now")
            status = daemon.wait_until(
                lambda status, rounds=rounds: (
                    status["rounds"]["count"] > rounds  # type: ignore[misc]
                    and not status["rounds"]["running"]
                )
            )
            rounds = status["rounds"]["count"]
            last = status["rounds"]["last"]
            assert last["outcome"] in outcomes, (how, last)
            assert reason in " ".join(last["reasons"]), (how, last)
            for log in (daemon.state / "rounds").glob("*/trainer.log"):
                assert log.stat().st_size < LIMIT + 4096
            # Frames go on being taken, and the joules are on record.
            assert camera.send(100 + rounds)["ok"]
    assert daemon.stop() == 0
    books = audit(daemon.state, Promises())
    assert not books["open"]
    assert len(books["closed"]) >= rounds
    check_live_model(daemon.state)
