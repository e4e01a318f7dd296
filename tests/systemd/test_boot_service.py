"""The installed units under a real systemd, with all of their hardening."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from machine import Machine

# Several minutes on a machine whose disk and processors are busy with other things.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CLI = "/opt/dance-ondevice/bin/dance-ondevice"
CONFIG_FILE = "/etc/dance-ondevice/config.toml"
CONFIG = """
[data_slimming]
warmup_frames = 64
[training]
interval = "1h"
epochs = 1
batch_size = 4
threads = 1
precision = "fp32"
priority = "normal"
[promotion]
min_gain = -1.0
max_class_drop = 1.0
[inference]
enabled = false
[storage]
min_free_bytes = 0
[energy]
idle_watts = 1.0
max_watts = 4.0
"""
PYTHON = "/opt/dance-ondevice/bin/python"
LOG_IN = """
import http.client, pathlib, time
token = pathlib.Path("/var/lib/dance-ondevice/console.token").read_text().strip()
def ask(path, headers):
    deadline = time.monotonic() + 60
    while True:
        try:
            channel = http.client.HTTPConnection("127.0.0.1", 9748, timeout=30)
            channel.request("GET", path, headers={"Accept": "text/html", **headers})
            return channel.getresponse()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
entered = ask("/?token=" + token, {})
page = ask("/", {"Cookie": entered.getheader("set-cookie", "").split(";")[0]})
print(entered.status, page.status)
"""
CAMERA = "DANCE_SOURCE=synthetic:street?condition=day&frames=60&seed=0&size=64x48\nOPTIONS=--fps 30\n"


def wait_for(machine: Machine, true: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Ask the daemon for its status until it is as wanted."""
    deadline = time.monotonic() + 90
    while True:
        status: dict[str, Any] = json.loads(machine.run(CLI, "status", "--json"))
        if true(status):
            return status
        assert time.monotonic() < deadline, f"{status}\n{machine.journal('dance-ondevice')}"
        time.sleep(0.2)


def test_the_service_from_its_start_to_its_stop(machine: Machine) -> None:
    machine.write(CONFIG_FILE, CONFIG)
    machine.run("systemd-sysusers")
    machine.run("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/dance-ondevice.conf")
    machine.write("/etc/dance-ondevice/cameras/front.env", CAMERA)
    machine.run("systemctl", "start", "dance-ondevice", "dance-ondevice-camera@front")
    shown = machine.properties("dance-ondevice", "StatusText", "ActiveState", "User", "Slice", "WatchdogUSec")
    assert shown["ActiveState"] == "active"
    assert "frames/s, live " in shown["StatusText"]
    assert "J to spend" in shown["StatusText"]
    assert shown["Slice"] == "dance_ondevice.slice"
    owner = machine.run("stat", "--format=%U %a", "/var/lib/dance-ondevice/").split()
    assert owner[0] != "root"
    assert owner[1] == "700"

    # The console is another user, which reaches the daemon's second socket and nothing else of it.
    machine.run("systemctl", "start", "dance-ondevice-console")
    login = machine.run(PYTHON, "-I", "-c", LOG_IN)
    assert login.split() == ["200", "200"], machine.journal("dance-ondevice-console")
    users = {unit: machine.properties(unit, "User")["User"] for unit in ("dance-ondevice-console",)}
    assert users["dance-ondevice-console"] not in ("root", shown["User"])
    socket = machine.run("stat", "--format=%G %a", "/run/dance-console/console.sock").split()
    assert socket == ["dance-console", "660"]
    machine.run("systemctl", "stop", "dance-ondevice-console")
    assert machine.properties("dance-ondevice-console", "Result")["Result"] == "success"

    # The camera's own unit feeds it, and a round trains inside the sandbox, which leaves torch what it needs.
    wait_for(machine, lambda status: status["samples"]["labelled"] >= 30)
    # Progress goes to standard error, which is read along.
    printed = machine.run(CLI, "train-now", "--wait", "--json")
    outcome = json.loads(printed[printed.index("{") :])
    assert outcome["outcome"] == "promoted", machine.journal("dance-ondevice")

    # Reload: what can change does, what is wrong is refused with its reasons and nothing stops.
    machine.write(
        CONFIG_FILE, CONFIG.replace("max_watts = 4.0", "max_watts = 4.0\nbudget_joules_per_day = 7")
    )
    machine.run("systemctl", "reload", "dance-ondevice")
    assert "energy.budget_joules_per_day=7.0" in machine.journal("dance-ondevice")
    machine.write(CONFIG_FILE, CONFIG.replace("epochs = 1", "epochs = -1"))
    refused = machine.run("systemctl", "reload", "dance-ondevice", ok=False)
    assert "failed" in refused
    assert "training.epochs: found -1" in machine.journal("dance-ondevice")
    shown = machine.properties("dance-ondevice", "ActiveState", "NRestarts", "MainPID")
    assert (shown["ActiveState"], shown["NRestarts"]) == ("active", "0")

    # A kill is a failure and comes back; a wrong configuration does not.
    machine.run("systemctl", "stop", "dance-ondevice-camera@front")
    assert "Result=success" in machine.run(
        "systemctl", "show", "dance-ondevice-camera@front", "--property=Result"
    )
    machine.run("systemctl", "kill", "--signal=KILL", "dance-ondevice")
    deadline = time.monotonic() + 30
    while machine.properties("dance-ondevice", "ActiveState")["ActiveState"] != "failed":
        assert time.monotonic() < deadline, machine.journal("dance-ondevice")
        time.sleep(0.2)
    shown = machine.properties("dance-ondevice", "ExecMainStatus", "NRestarts")
    assert (shown["ExecMainStatus"], shown["NRestarts"]) == ("78", "1")

    machine.write(CONFIG_FILE, CONFIG)
    machine.run("systemctl", "reset-failed", "dance-ondevice")
    machine.run("systemctl", "start", "dance-ondevice")
    status = wait_for(machine, lambda status: status["version"])
    assert status["version"] == outcome["version"]
    machine.run("systemctl", "stop", "dance-ondevice")
    shown = machine.properties("dance-ondevice", "ActiveState", "Result")
    assert shown == {"ActiveState": "inactive", "Result": "success"}
