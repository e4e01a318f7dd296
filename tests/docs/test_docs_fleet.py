"""The page of a fleet: the commands of its five minutes as they stand, and what it says of rules."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from daemon_process import PATIENCE

from dance_ondevice.daemon.security.kit import ServerSettings
from dance_ondevice.policies.fleet.rules import FleetRules

PAGE = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text()


def test_the_tables_name_every_setting_and_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S[^|]*?) \|", PAGE, re.M))
    rules = {field.name: field.default for field in dataclasses.fields(FleetRules)}
    settings = {field.name for field in msgspec.structs.fields(ServerSettings)}
    assert set(rows) == set(rules) | settings
    for name, default in rules.items():
        assert float(rows[name]) == default, name


def small(boards: str) -> str:
    """The boards with a small model, and with short rounds that wait for no test of another process."""
    for section, keys in (
        (
            "training",
            ('priority = "normal"', "epochs = 1", "batch_size = 4", "threads = 1", 'precision = "fp32"'),
        ),
        ("inference", ('engine = "torch"', "threads = 1")),
    ):
        boards = boards.replace(f"[{section}]", "\n".join((f"[{section}]", *keys)))
    return boards.replace("[metrics]", "[model]\nsize = [64, 48]\n[metrics]")


def free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_five_minutes_work_as_they_stand(tmp_path: Path) -> None:
    """Every command of the tutorial in one shell, up to each board's place in its fleet."""
    if not all(map(free, (5590, 9749, 6001, 6002, 6003, 6011, 6012, 6013))):
        pytest.skip("something listens at one of the tutorial's ports")
    section = PAGE.partition("## Three boards")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
    init, serve, boards, join, frames, more, status = blocks
    patience = f"for _ in $(seq {10 * PATIENCE}); do {{}} && break; sleep 0.1; done\n"
    script = "".join(
        [
            "set -e\n",
            init,
            serve,
            small(boards),
            # What a person sees before typing on.
            *(patience.format(f"[ -S board{n}/fleet.sock ]") for n in (1, 2, 3)),
            join,
            frames.replace("160x120", "64x48"),
            patience.format(f"{status.strip()} | grep -q 'version 0'"),
            more.replace("160x120", "64x48"),
            # Copies of what the round learnt from would leave its probation where it began.
            patience.format(f"! {status.strip()} | grep -q 'on probation. 0 of'"),
            status,
            "kill $(jobs -p)\n",
        ]
    )
    bin_folder = Path(sys.executable).parent
    environ = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "XDG_RUNTIME_DIR": str(tmp_path)}
    shell = subprocess.Popen(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = shell.communicate(timeout=850)
    finally:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                os.killpg(shell.pid, signal.SIGKILL)
            except ProcessLookupError:
                break
            time.sleep(0.1)
    logs = {path.name: path.read_text()[-1500:] for path in tmp_path.glob("*.log")}
    assert shell.returncode == 0, (said, logs)
    assert said.count("promoted") + said.count("rejected") >= 3, (said, logs)
    assert "published" in said, (said, logs)
    assert "on probation: 0 of" not in said, (said, logs)
    assert "trouble" in said, (said, logs)
