"""A real daemon in its own process, on ports of its own, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from dance_ondevice.daemon.control import client
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.datasets.street import STREET_CLASSES, StreetCamera
from dance_ondevice.images import codec as images

#: Seconds that a daemon may take to start, or to get where a test wants it: a busy machine is no failure.
PATIENCE = int(os.environ.get("DANCE_TEST_PATIENCE", "300"))

CONFIG = """
[ingest]
bind = ["tcp://127.0.0.1:*"]
[data_slimming]
warmup_frames = 4
[model]
size = [64, 48]
weights = "untrained"
[training]
interval = "1h"
epochs = 1
batch_size = 4
threads = 1
precision = "fp32"
priority = "{priority}"
[promotion]
min_gain = -1.0
max_class_drop = 1.0
max_condition_drop = 1.0
max_latency_ratio = 100.0
[inference]
enabled = {inference}
publish = "tcp://127.0.0.1:*"
engine = "{engine}"
threads = 1
[metrics]
listen = "127.0.0.1:0"
[storage]
min_free_bytes = 0
[energy]
max_watts = 4.0
"""


def config_text(*, inference: bool = False, engine: str = "torch", priority: str = "normal") -> str:
    """A configuration for small frames; one engine is enough for most tests.

    With two, each first version is exported and both are compared. Rounds have normal priority, since they
    would wait for the tests of other processes with the usual one.
    """
    return CONFIG.format(inference=str(inference).lower(), engine=engine, priority=priority)


class Daemon:
    """Starts, asks and stops one daemon; the state folder outlives it."""

    def __init__(
        self,
        folder: Path,
        *,
        inference: bool = False,
        engine: str = "torch",
        priority: str = "normal",
        extra: str = "",
    ) -> None:
        self.state = folder / "state"
        self.config = folder / "site.toml"
        self.log = folder / "daemon.log"
        self._runtime = folder / "runtime"
        self._runtime.mkdir(mode=0o700, exist_ok=True)
        self.config.write_text(config_text(inference=inference, engine=engine, priority=priority) + extra)
        self.facts: dict[str, Any] = {}
        self.program: tuple[str, ...] = (sys.executable, "-m", "dance_ondevice")
        #: What the daemon is started with, such as a command that sets limits.
        self.prefix: tuple[str, ...] = ()
        #: Options of ``run`` beside the configuration and the state folder.
        self.options: tuple[str, ...] = ()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self.process is not None
        return self.process

    def launch(self, **environ: str) -> Daemon:
        """Start and do not wait."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.prefix,
                    *self.program,
                    "run",
                    *("--config", str(self.config), "--state-dir", str(self.state)),
                    *self.options,
                ],
                stderr=log,
                # Commands find a user's daemons through the runtime folder; a test's must not be among them.
                env={**os.environ, "RUNTIME_DIRECTORY": str(self._runtime), **environ},
            )
        return self

    def start(self, **environ: str) -> Daemon:
        """Start and wait until it answers."""
        return self.launch(**environ).answers()

    def answers(self) -> Daemon:
        """Wait until it answers."""
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            try:
                self.facts = json.loads((self.state / "daemon.json").read_bytes())
                if self.facts["pid"] == self.process.pid:
                    self.ask("status")
                    return self
            except (FileNotFoundError, client.ClientError):
                pass
            # Waiting for another process to come up: the only way is to look again.
            time.sleep(0.05)

    def ask(self, command: str, **arguments: Any) -> Any:
        return client.request(self.facts["control"], command, 10.0, **arguments)

    def wait_until(self, true: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Look at ``status`` until it is as wanted; fails with the log when patience ends."""
        deadline = time.monotonic() + PATIENCE
        while not true(status := self.ask("status")):
            assert time.monotonic() < deadline, f"{status}\n{self.log.read_text()}"
            # Polling without a pause would take processor time from the trainer.
            time.sleep(0.1)
        return status

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)

    def run_cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command of the command line against this daemon's state folder."""
        return subprocess.run(
            [sys.executable, "-m", "dance_ondevice", *arguments, "--state-dir", str(self.state)],
            capture_output=True,
            text=True,
            check=False,
        )


def plant_model(state: Path) -> None:
    """Write a first version as such a daemon would; as its ledger is missing, no joules are left."""
    folder = state / "models" / "v0001"
    first_model.main(["fastscnn", "", json.dumps(STREET_CLASSES), "0", "64", "48", str(folder)])
    card = json.loads((folder / "card.json").read_bytes())
    (folder / "card.json").write_text(json.dumps({**card, "version": "v0001"}))
    live = {"version": "v0001", "previous": None, "frozen": "v0001"}
    (state / "models" / "live.json").write_text(json.dumps(live))


def free_port() -> int:
    """A free port below those that the kernel gives to connections.

    A client that connects again and again to one of those may meet itself, and hold the port of a server that
    restarts.
    """
    for port in random.sample(range(15_000, 32_000), 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


class Camera:
    """A REQ sender of labelled synthetic frames, written against the wire and not with the own sender."""

    def __init__(self, endpoint: str, name: str = "front") -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.linger = 0
        self._socket.rcvtimeo = 30_000
        self._socket.connect(endpoint)
        self._name = name
        self._street = StreetCamera(seed=3, height=48, width=64)

    def send(
        self, index: int, *, labelled: bool = True, condition: str = "day", v: int = 1
    ) -> dict[str, Any]:
        """Send one frame and return its acknowledgement."""
        image, label = self._street.render(index, condition)
        header = {
            "v": v,
            "camera": self._name,
            "seq": index,
            "captured_at": 1_760_000_000.0 + index,
            "encoding": "jpeg",
        }
        parts = [json.dumps(header).encode(), images.encode_jpeg(image)]
        self._socket.send_multipart(parts + ([images.encode_png(label)] if labelled else []))
        reply: dict[str, Any] = json.loads(self._socket.recv())
        return reply

    def close(self) -> None:
        self._socket.close()
        self._context.term()
