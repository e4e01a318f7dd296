"""The real daemon as a process, without inference so that it starts quickly."""

from __future__ import annotations

from pathlib import Path

import pytest

from dance_ondevice.daemon.config import load as config
from dance_ondevice.demo import run
from dance_ondevice.demo.process import DaemonDied, DaemonProcess, write_config


def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    return tmp_path / "demo.toml", tmp_path / "state", tmp_path / "daemon.log"


def test_configuration_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "demo.toml"
    (tmp_path / "base").mkdir()
    for name in ("model.safetensors", "card.json"):
        (tmp_path / "base" / name).touch()
    write_config(file, run.configuration(tmp_path / "base"))
    loaded = config.load(file).config

    assert loaded.model.weights == str(tmp_path / "base")
    assert loaded.model.size == (192, 144)
    assert loaded.training.interval == "2s"


@pytest.mark.slow
def test_daemon_starts_answers_and_stops(tmp_path: Path) -> None:
    file, state, log = folders(tmp_path)
    values = run.configuration(Path())
    values["model"] = {}
    values["inference"] = {"enabled": False}
    write_config(file, values)

    log.write_text("of an earlier one\n")
    with DaemonProcess(file, state, log, log_bytes=1500) as daemon:
        facts = daemon.wait_ready(60, lambda: None)
        with log.open("a") as more:  # as if it had run for weeks
            more.write("more\n" * 400 + "the end\n")
        status = daemon.status()
        assert 600 < log.stat().st_size < 1500
        assert "the end" in daemon.log_tail()

        assert facts.ingest[0].startswith("tcp://127.0.0.1:")
        assert facts.metrics is not None
        assert status["ready"] is True
        assert daemon.stop() == 0
        with pytest.raises(DaemonDied, match="ended with status 0"):
            daemon.check()


@pytest.mark.slow
def test_early_death_shows_the_log(tmp_path: Path) -> None:
    file, state, log = folders(tmp_path)
    file.write_text('[ingest]\nbnid = ["tcp://127.0.0.1:*"]\n')

    with (
        pytest.raises(DaemonDied, match=r"(?s)ended with status 78.*bnid"),
        DaemonProcess(file, state, log) as daemon,
    ):
        daemon.wait_ready(60, lambda: None)


@pytest.mark.slow
def test_nothing_is_left_running_after_an_error(tmp_path: Path) -> None:
    file, state, log = folders(tmp_path)
    values = run.configuration(Path())
    values["model"] = {}
    values["inference"] = {"enabled": False}
    write_config(file, values)

    daemon = DaemonProcess(file, state, log)

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), daemon:
        daemon.wait_ready(60, fail)

    with pytest.raises(DaemonDied, match="the daemon ended with status"):
        daemon.check()
