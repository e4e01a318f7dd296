"""Makes a small state folder with the real daemon of a build, for the test that later builds can open it.

Run it with the interpreter of the build that the state shall come from; it uses nothing of a build but its
command line, its wire protocol and its synthetic street::

    git worktree add --detach /tmp/old 61db62c      # the code of 0.1.0 before the packages were arranged anew
    (cd /tmp/old && make .venv/.stamp-run)
    /tmp/old/.venv/bin/python tests/states/make_state.py tests/states/0.1.0

``0.1.0`` was made like that. It holds labelled frames and frames without a label, the first version, and one
that a round promoted. A second round was interrupted by a clean stop, so that it has a checkpoint; the next
start went on with it, and kill -9 cut it off, so that its joules are reserved and not settled. ``made.json``
says what a build that opens the folder must find. Sockets, locks, logs and the console's token are left out.
``0.2.0`` was made by the build of that name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import zmq

from dance_ondevice.datasets.street import StreetCamera

HERE = Path(__file__).resolve().parent
SIZE = (48, 64)
PATIENCE = 300
#: Epochs of the round that is interrupted: still in the middle when the stop comes, and soon done afterwards.
LONG = 100

CONFIG = """\
[ingest]
bind = ["tcp://127.0.0.1:*"]
[storage]
quota_bytes = 2000000
min_free_bytes = 0
[data_slimming]
warmup_frames = 4
[model]
factory = "tiny_network:make"
size = [64, 48]
[network_slimming]
step = 0.2
[training]
interval = "1h"
epochs = {epochs}
batch_size = 4
threads = 1
precision = "fp32"
early_stopping = false
[promotion]
min_gain = -1.0
max_class_drop = 1.0
max_condition_drop = 1.0
max_latency_ratio = 100.0
probation_samples = 0
[inference]
enabled = false
[metrics]
enabled = false
[energy]
meter = "modelled"
max_watts = 4.0
"""


class OldDaemon:
    """The daemon of the interpreter that runs this, with the folders it works in."""

    def __init__(self, folder: Path) -> None:
        self.state, self._config, self._runtime = folder / "state", folder / "site.toml", folder / "runtime"
        self._runtime.mkdir(mode=0o700)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, epochs: int) -> None:
        """Starts and waits until it answers."""
        self._config.write_text(CONFIG.format(epochs=epochs))
        # In a folder of its own: Python would take the package of the current one before the build's.
        self._process = subprocess.Popen(
            [*self._command("run"), "--config", str(self._config)], env=self._environ(), cwd=self._runtime
        )
        self.wait_until(lambda status: True)

    def command(self, *arguments: str) -> Any:
        """What a command prints with ``--json``; nothing where it fails."""
        done = subprocess.run(
            [*self._command(*arguments), "--json"],
            env=self._environ(),
            cwd=self._runtime,
            capture_output=True,
            check=False,
        )
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_until(self, true: Any) -> Any:
        """Asks for ``status`` until it is as wanted."""
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                sys.exit("the daemon ended, or never got where it was wanted")
            status = self.command("status")
            if status is not None and true(status):
                return status
            time.sleep(0.1)

    def stop(self, number: int) -> None:
        """Sends a signal and waits for the end."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(60)

    def close(self) -> None:
        """Ends the daemon if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self.stop(signal.SIGKILL)

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "dance_ondevice", *arguments, "--state-dir", str(self.state)]

    def _environ(self) -> dict[str, str]:
        return {**os.environ, "RUNTIME_DIRECTORY": str(self._runtime), "PYTHONPATH": str(HERE)}


def send(endpoint: str, frames: range, *, labelled: bool) -> list[str]:
    """Sends frames of the synthetic street and returns the identities of those that were kept."""
    street, kept = StreetCamera(seed=3, height=SIZE[0], width=SIZE[1]), []
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger, socket.rcvtimeo = 0, 30_000
        socket.connect(endpoint)
        for index in frames:
            image, label = street.render(index, "day")
            at = 1_760_000_000.0 + index
            header = {"v": 1, "camera": "front", "seq": index, "captured_at": at, "encoding": "jpeg"}
            parts = [
                json.dumps(header).encode(),
                cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes(),
            ]
            socket.send_multipart(parts + ([cv2.imencode(".png", label)[1].tobytes()] if labelled else []))
            reply = json.loads(socket.recv())
            assert reply["ok"], reply
            kept += [reply["id"]] if reply["kept"] else []
    return kept


def ingest_of(daemon: OldDaemon) -> str:
    """The address that a running daemon takes frames at."""
    endpoint: str = json.loads((daemon.state / "daemon.json").read_bytes())["ingest"][0]
    return endpoint


def live(daemon: OldDaemon) -> dict[str, Any]:
    """The daemon's life up to the second, interrupted round; returns what must be found afterwards."""
    daemon.start(epochs=1)
    endpoint = ingest_of(daemon)
    kept = send(endpoint, range(20), labelled=True) + send(endpoint, range(20, 32), labelled=False)
    first = daemon.command("train-now", "--wait")
    assert first is not None
    assert first["outcome"] == "promoted", first
    kept += send(endpoint, range(32, 46), labelled=True)
    daemon.stop(signal.SIGTERM)
    daemon.start(epochs=LONG)
    assert daemon.command("train-now") is not None
    daemon.wait_until(lambda status: status["rounds"]["step"])
    daemon.stop(signal.SIGTERM)
    daemon.start(epochs=LONG)
    status = daemon.wait_until(lambda status: status["rounds"]["step"])
    daemon.stop(signal.SIGKILL)
    return {"kept": kept, "live": status["version"], "promoted_round": first["round"]}


def main(out: Path) -> None:
    """Makes the state folder ``out``, which must not be there."""
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(OldDaemon(Path(folder))) as daemon:
        made = live(daemon)
        # What the daemon had committed goes from the log into the database, so that one file holds it.
        with contextlib.closing(sqlite3.connect(daemon.state / "dance.db")) as database:
            database.execute("pragma wal_checkpoint(truncate)")
            ((interrupted,),) = database.execute("select id from rounds where outcome is null").fetchall()
        made |= {
            "interrupted_round": interrupted,
            "state_dir": str(daemon.state),
            "python": sys.version.split()[0],
        }
        shutil.copytree(daemon.state, out, ignore=lambda _, names: [n for n in names if is_left_out(n)])
    (out / "made.json").write_text(json.dumps(made, indent=1) + "\n")


def is_left_out(name: str) -> bool:
    """Whether a file of the state folder means nothing once its daemon has ended."""
    return name.endswith((".sock", ".log", "-wal", "-shm")) or name in {
        "daemon.json",
        "lock",
        "console.token",
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
