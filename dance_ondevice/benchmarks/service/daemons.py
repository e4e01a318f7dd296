"""A daemon of one build, started for a measurement, and the connections to it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from dance_ondevice.benchmarks.service.builds import Build
from dance_ondevice.benchmarks.service.counters import CpuTime, Memory, cpu_time
from dance_ondevice.daemon.control import client
from dance_ondevice.daemon.control.instances import DaemonFile
from dance_ondevice.demo.process import DaemonDied, DaemonProcess, write_config

#: A busy machine may take minutes to make the first graph.
_READY_SECONDS = 300.0
#: Seconds that the last masks and answers may take.
_LAST_SECONDS = 10.0

Config = Mapping[str, Mapping[str, object]]


class Daemon:
    """One running daemon; inside a ``with``, after which it is gone."""

    def __init__(self, build: Build, folder: Path, config: Config, *, again: bool = False) -> None:
        """Write its configuration; keys that the build does not know are left out.

        Args:
            build: What is started.
            folder: Made for it.
            config: Values that are not the defaults.
            again: Whether the folder may be there from an earlier start.
        """
        folder.mkdir(parents=True, exist_ok=again)
        known = {
            section: {key: value for key, value in keys.items() if build.knows(f"{section}.{key}")}
            for section, keys in config.items()
        }
        write_config(folder / "config.toml", known)
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # In the abstract namespace: a path may be too long for an address.
        address = f"\0dance-bench-{time.monotonic_ns()}"
        self._ready.bind(address)
        self._process = DaemonProcess(
            folder / "config.toml",
            folder / "state",
            folder / "daemon.log",
            python=build.python,
            cwd=build.root,
            environ={**build.environ, "NOTIFY_SOCKET": "@" + address[1:]},
        )
        self.facts: DaemonFile
        self.memory: Memory
        self.ready_seconds = 0.0

    def __enter__(self) -> Daemon:
        """Start it and wait until it is ready.

        Raises:
            DaemonDied: It ended, or does not become ready.
        """
        started = time.monotonic()
        self._process.__enter__()
        try:
            self._wait_for_ready(started)
            self.ready_seconds = time.monotonic() - started
            self.facts = self._process.wait_ready(_READY_SECONDS, lambda: None)
        except BaseException:
            self.close()
            raise
        self.memory = Memory(self.facts.pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.close()

    def close(self) -> None:
        """End the process and close the socket."""
        self._process.__exit__(None, None, None)
        self._ready.close()

    def cpu(self) -> CpuTime:
        """Return the CPU time that it has used so far."""
        return cpu_time(self.facts.pid)

    def joules(self) -> tuple[float | None, str]:
        """Return the joules above idle of all that it does, by its own account, and the meter."""
        energy = self._process.status().get("energy", {})
        workloads = energy.get("workload_joules")
        meter = f"{energy.get('source', '?')}, {energy.get('method', '?')}"
        return (None if workloads is None else sum(workloads.values())), meter

    def _wait_for_ready(self, started: float) -> None:
        self._ready.settimeout(0.5)
        while time.monotonic() - started < _READY_SECONDS:
            try:
                if b"READY=1" in self._ready.recv(4096).splitlines():
                    return
            except TimeoutError:
                self._process.check()
        raise DaemonDied(f"not ready within {_READY_SECONDS:g} s; its log ends:\n{self._process.log_tail()}")


class Viewer:
    """A camera of a daemon and a subscriber to its masks, used by one thread."""

    def __init__(self, daemon: Daemon) -> None:
        facts = daemon.facts
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._camera = self._context.socket(zmq.DEALER)
        self._camera.connect(facts.ingest[0])
        self._masks = self._context.socket(zmq.SUB)
        self._masks.setsockopt(zmq.SUBSCRIBE, b"mask/")
        if facts.inference is None:
            raise client.ClientError("the daemon publishes no masks")
        self._masks.connect(facts.inference)
        self.sent = self.answered = self.kept = self.refused = 0
        #: Header and PNG of each mask.
        self.masks: list[tuple[dict[str, Any], bytes]] = []

    def __enter__(self) -> Viewer:
        """Nothing more to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._camera.close(linger=0)
        self._masks.close(linger=0)
        self._context.term()

    def send(self, jpeg: bytes) -> None:
        """Send a frame and take what has come."""
        header = {
            "v": 1,
            "camera": "front",
            "seq": self.sent,
            "captured_at": time.time(),
            "encoding": "jpeg",
        }
        self._camera.send_multipart([json.dumps(header).encode(), jpeg])
        self.sent += 1
        self.take()

    def take(self) -> None:
        """Take the answers and masks that are there."""
        while self._camera.poll(0):
            answer = json.loads(self._camera.recv_multipart()[-1])
            self.answered += 1
            self.kept += bool(answer.get("kept"))
            self.refused += not answer.get("ok")
        while self._masks.poll(0):
            _, header, png = self._masks.recv_multipart()
            self.masks.append((json.loads(header), png))

    def finish(self, first: int) -> None:
        """Wait for the last answers and for the mask of the last frame, if masks of this stream came.

        Raises:
            ClientError: Answers are missing.
        """
        deadline = time.monotonic() + _LAST_SECONDS
        while time.monotonic() < deadline:
            self.take()
            last = self.masks[-1][0]["seq"] if self.masks else first
            if self.answered >= self.sent and last >= self.sent - 1:
                return
            time.sleep(0.01)
        if self.answered < self.sent:
            raise client.ClientError(f"{self.sent - self.answered} frames have no answer")
