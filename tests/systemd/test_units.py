"""What systemd itself says of the units, and what they and the code have to agree on."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dance_ondevice.daemon.cli import EXIT_BAD_CONFIG
from dance_ondevice.daemon.system.descriptors import shares
from dance_ondevice.daemon.system.stopping import STOP_SECONDS

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
DAEMON = SYSTEMD / "dance-ondevice.service"
CAMERA = SYSTEMD / "dance-ondevice-camera@.service"
SLICE = SYSTEMD / "dance_ondevice.slice"
CONSOLE = SYSTEMD / "dance-ondevice-console.service"
FLEET = SYSTEMD / "dance-ondevice-fleet.service"
LIMITS = {DAEMON: 1.3, CAMERA: 1.6, CONSOLE: 1.3, FLEET: 1.3}

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (apt install systemd)"
)


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def one(unit: Path, name: str) -> str:
    (value,) = settings(unit)[name]
    return value


def analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"},
    )
    return done.stdout


@needs_analyze
def test_verify_prints_nothing(tmp_path: Path) -> None:
    program = tmp_path / "prefix" / "bin" / "dance-ondevice"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = []
    for unit in (DAEMON, CAMERA, CONSOLE, SLICE):
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace("/opt/dance-ondevice", str(tmp_path / "prefix")))
        units.append(str(copy))
    assert analyze("verify", *units) == ""
    # It would have said something: a unit with a mistake in it.
    wrong = tmp_path / "wrong.service"
    wrong.write_text(f"[Service]\nExecStart={program}\nProtectHoem=yes\n")
    assert "ProtectHoem" in analyze("verify", str(wrong))


@needs_analyze
@pytest.mark.parametrize("unit", list(LIMITS), ids=lambda unit: unit.name)
def test_exposure(unit: Path) -> None:
    said = analyze("security", "--offline=true", "--no-pager", str(unit))
    (level,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert float(level) <= LIMITS[unit], said


@needs_analyze
def test_every_directive_that_is_left_out_is_explained() -> None:
    said = analyze("security", "--offline=true", "--no-pager", str(DAEMON))
    missing = re.findall(r"^✗ (\S+)", said, re.MULTILINE)
    comments = "\n".join(line for line in DAEMON.read_text().splitlines() if line.startswith("#"))
    assert "MemoryDenyWriteExecute=" in missing
    assert [name for name in missing if f"# {name}" not in comments] == []


@pytest.mark.parametrize("unit", list(LIMITS), ids=lambda unit: unit.name)
def test_libzmq_may_do_what_it_aborts_without(unit: Path) -> None:
    """Binding looks up interfaces over netlink, and each of its threads sets its own scheduling."""
    assert "AF_NETLINK" in one(unit, "RestrictAddressFamilies").split()
    assert "sched_setscheduler" in settings(unit)["SystemCallFilter"][-1].split()


def test_restarts_and_stops_agree_with_the_daemon() -> None:
    assert one(DAEMON, "RestartPreventExitStatus") == str(EXIT_BAD_CONFIG)
    assert float(one(DAEMON, "TimeoutStopSec")) > 2 * STOP_SECONDS
    # Else systemd's SIGTERM would reach the trainer first, and the daemon would take that for a failed round.
    assert one(DAEMON, "KillMode") == "mixed"
    assert one(DAEMON, "Type") == "notify"
    assert int(one(DAEMON, "WatchdogSec")) > 0


@pytest.mark.parametrize("unit", list(LIMITS), ids=lambda unit: unit.name)
def test_no_unit_is_given_up_while_the_network_or_a_disk_is_late(unit: Path) -> None:
    assert one(unit, "StartLimitIntervalSec") == "0"
    assert one(unit, "Restart") in ("on-failure", "always")
    assert float(one(unit, "RestartSec")) >= 5


def test_cameras_go_before_the_daemon_and_both_lie_in_one_slice() -> None:
    assert int(one(CAMERA, "CPUWeight")) > int(one(DAEMON, "CPUWeight"))
    assert one(DAEMON, "Slice") == one(CAMERA, "Slice") == SLICE.name
    # A dash would nest it in another slice, whose weight would be the one that counts.
    assert "-" not in SLICE.stem


def test_a_cameras_password_is_no_argument() -> None:
    assert "DANCE_SOURCE" not in one(CAMERA, "ExecStart")
    assert "DANCE_SOURCE=" in (SYSTEMD / "camera.env.example").read_text()


def test_the_group_of_the_rule_is_the_one_that_is_made_and_joined() -> None:
    made = re.findall(r"^g (\S+)", (SYSTEMD / "dance-ondevice.sysusers.conf").read_text(), re.MULTILINE)
    rule = (SYSTEMD / "99-dance-ondevice-rapl.rules").read_text()
    assert made == one(DAEMON, "SupplementaryGroups").split()
    assert f"chgrp {made[0]} " in rule


def test_daemon_and_console_are_two_users_with_one_socket_between_them() -> None:
    folder = (SYSTEMD / "dance-ondevice.tmpfiles.conf").read_text()
    socket = "DANCE_CONSOLE_SOCKET=/run/dance-console/console.sock"
    for unit in (DAEMON, CONSOLE):
        assert socket in settings(unit)["Environment"]
        assert "dance-console" in one(unit, "SupplementaryGroups").split()
    assert "d /run/dance-console 2770 root dance-console -" in folder
    assert "dance-ondevice" in one(CONSOLE, "InaccessiblePaths")
    assert "StateDirectory" not in settings(CONSOLE)
    assert "-/run/dance-console" in one(DAEMON, "ReadWritePaths").split()
    assert one(CONSOLE, "RestartPreventExitStatus").split() == ["2", str(EXIT_BAD_CONFIG)]


def test_the_link_to_a_fleet_is_another_user_with_one_socket() -> None:
    folder = (SYSTEMD / "dance-ondevice.tmpfiles.conf").read_text()
    for unit in (DAEMON, FLEET):
        assert "DANCE_FLEET_SOCKET=/run/dance-fleet/fleet.sock" in settings(unit)["Environment"]
        assert "dance-fleet" in one(unit, "SupplementaryGroups").split()
    assert "d /run/dance-fleet 2770 root dance-fleet -" in folder
    assert "-/run/dance-fleet" in one(DAEMON, "ReadWritePaths").split()
    assert "dance-ondevice" in one(FLEET, "InaccessiblePaths")
    assert "StateDirectory" not in settings(FLEET)
    assert one(FLEET, "LoadCredential").startswith("board.key_secret:/etc/dance-ondevice/fleet/")


def test_the_daemon_may_take_its_trainer_out_of_the_idle_class() -> None:
    # systemd.exec(5): with a sign it is a nice value, without one the kernel's, where 0 allows nothing.
    assert one(DAEMON, "LimitNICE") == "+0"


def test_descriptors_last_for_the_connections_that_are_let_in() -> None:
    given = shares(int(one(DAEMON, "LimitNOFILE")), max_cameras=4096)
    assert (given.senders, given.readers, given.commands) == (8192, 512, 32)
