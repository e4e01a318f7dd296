from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from dance_ondevice.daemon.system.systemd import notify, watchdog_interval


def receiver(address: str) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.settimeout(5)
    channel.bind(address)
    return channel


def test_a_state_reaches_the_managers_socket(tmp_path: Path):
    path = str(tmp_path / "notify")
    with receiver(path) as manager:
        assert notify("READY=1\nSTATUS=läuft", {"NOTIFY_SOCKET": path})
        assert manager.recv(4096).decode() == "READY=1\nSTATUS=läuft"


def test_an_abstract_socket_is_reached(tmp_path: Path):
    name = f"dance-ondevice-test-{os.getpid()}"
    with receiver(f"\0{name}") as manager:
        assert notify("WATCHDOG=1", {"NOTIFY_SOCKET": f"@{name}"})
        assert manager.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_manager_nothing_is_sent(environ: dict[str, str]):
    assert not notify("READY=1", environ)


def test_a_manager_that_went_away_is_no_error(tmp_path: Path):
    assert not notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "gone")})


def test_a_manager_that_does_not_read_blocks_nothing(tmp_path: Path):
    path = str(tmp_path / "notify")
    with receiver(path):
        sent = [notify("WATCHDOG=1", {"NOTIFY_SOCKET": path}) for _ in range(2000)]
    assert sent[0]
    assert not sent[-1]


def test_the_watchdogs_interval_is_in_seconds():
    assert watchdog_interval({"WATCHDOG_USEC": "30000000"}) == 30.0
    assert watchdog_interval({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}) == 0.5


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
    ],
)
def test_no_watchdog(environ: dict[str, str]):
    assert watchdog_interval(environ) is None
