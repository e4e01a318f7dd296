"""Senders that load a real daemon and remember its promises, and the audit of what it left on the disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from ingest_harness import header, jpeg, label

from dance_ondevice.models.card import decode_card

#: Frames that a camera has under way.
WINDOW = 16
#: Priority of rounds. Those in the background get no time at all beside the tests of other processes.
PRIORITY = os.environ.get("DANCE_FAULT_PRIORITY", "normal")
_PICTURES = 24


@dataclass
class Promises:
    """What was acknowledged, over all lives of a daemon: the digest of the sent image by sample id."""

    kept: dict[str, str] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    changed: threading.Event = field(default_factory=threading.Event)


class LoadedCamera(threading.Thread):
    """A DEALER that always has ``WINDOW`` frames under way, until it is told to stop."""

    def __init__(
        self, endpoint: str, name: str, promises: Promises, first: int, *, labels: bool = True
    ) -> None:
        super().__init__(name=f"camera-{name}", daemon=True)
        self._endpoint = endpoint
        self._name = name
        self._promises = promises
        self._labels = labels
        self.next = first
        self._halt = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
                socket.linger = 0
                # What a killed daemon left in the kernel's buffers still counts as promised.
                socket.reconnect_ivl = -1
                socket.connect(self._endpoint)
                self._send_all(socket)
        except BaseException as error:
            self.failure = error
            raise

    def stop(self) -> None:
        """Take in the answers that have arrived, send no more."""
        self._halt.set()
        self.join(30)
        assert not self.is_alive()
        assert self.failure is None, self.failure

    def _send_all(self, socket: zmq.Socket[bytes]) -> None:
        under_way: dict[int, str] = {}
        pictures = [jpeg(number) for number in range(_PICTURES)]
        mask = label()
        while not self._halt.is_set():
            # Nobody takes frames once the daemon is killed: a plain send would wait for ever.
            while len(under_way) < WINDOW and socket.poll(50, zmq.POLLOUT):
                picture = pictures[self.next % _PICTURES]
                head = header(camera=self._name, seq=self.next, captured_at=1_700_000_000.0 + self.next)
                parts = [head, picture, *([mask] if self._labels and self.next % 3 == 0 else [])]
                socket.send_multipart(parts)
                under_way[self.next] = hashlib.sha1(picture).hexdigest()
                self.next += 1
                with self._promises.lock:
                    self._promises.sent += 1
            self._take(socket, under_way, 50)
        # The daemon may be dead: what it said before still counts.
        while self._take(socket, under_way, 200):
            pass

    def _take(self, socket: zmq.Socket[bytes], under_way: dict[int, str], patience_ms: int) -> bool:
        if not socket.poll(patience_ms):
            return False
        reply = json.loads(socket.recv_multipart()[-1])
        sent = under_way.pop(reply["seq"])
        with self._promises.lock:
            self._promises.answers["kept" if reply.get("kept") else reply.get("code", "dropped")] += 1
            if reply.get("kept"):
                self._promises.kept[reply["id"]] = sent
        self._promises.changed.set()
        return True


class Load:
    """Some cameras at once; ``first`` goes on where an earlier load ended."""

    def __init__(
        self, endpoint: str, promises: Promises, *, first: int = 0, cameras: int = 2, labels: bool = True
    ) -> None:
        self._promises = promises
        self._cameras = [
            LoadedCamera(endpoint, f"cam{number}", promises, first, labels=labels)
            for number in range(cameras)
        ]
        for camera in self._cameras:
            camera.start()

    def wait_for_answers(self, count: int, *, name: str | None = None, alive: Callable[[], bool]) -> bool:
        """Until so many answers came in all; False when the daemon is gone before."""
        deadline = time.monotonic() + 120
        while True:
            with self._promises.lock:
                found = self._promises.answers.total() if name is None else self._promises.answers[name]
            if found >= count:
                return True
            if not alive():
                return False
            assert time.monotonic() < deadline, self._promises.answers
            self._promises.changed.wait(0.05)
            self._promises.changed.clear()

    def stop(self) -> int:
        """Stop all; returns the first number that no camera has used."""
        for camera in self._cameras:
            camera.stop()
        return max(camera.next for camera in self._cameras)


def audit(state: Path, promises: Promises, *, evicts: bool = False) -> dict[str, Any]:
    """Look at a state folder that no daemon uses: is all there that was promised, and is it whole?

    Returns:
        Sums of the ledger.
    """
    with contextlib.closing(sqlite3.connect(state / "dance.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = {
            identifier: (path, digest, received, label_path)
            for identifier, path, digest, received, label_path in db.execute(
                # Of a row that was made from its file nobody knows any more which bytes came.
                "SELECT id, path, digest, iif(origin = 'rebuilt', NULL, received_digest), label_path "
                "FROM samples"
            )
        }
        ledger = {
            "settled": db.execute("SELECT coalesce(sum(settled_joules), 0.0) FROM ledger").fetchone()[0],
            "open": {
                row[0]: row[1]
                for row in db.execute("SELECT id, reserved_joules FROM ledger WHERE closed_at IS NULL")
            },
            "closed": {
                row[0]: (row[1], row[2])
                for row in db.execute(
                    "SELECT id, reserved_joules, settled_joules FROM ledger WHERE closed_at IS NOT NULL"
                )
            },
        }
    if not evicts:
        missing = promises.kept.keys() - rows.keys()
        assert not missing, f"{len(missing)} acked samples are lost: {sorted(missing)[:3]}"
    for identifier, (path, digest, received, label_path) in rows.items():
        data = (state / path).read_bytes()
        assert hashlib.sha1(data).hexdigest() == digest, identifier
        assert received is None or promises.kept.get(identifier, received) == received, identifier
        assert label_path is None or (state / label_path).stat().st_size > 0
    return ledger


def lost_samples(stored_once: Set[str], files: Set[str], log: str) -> set[str]:
    """Of samples that were stored, those that are gone although no line of the log says they were evicted."""
    evicted = {each for line in re.findall(r"evicting ids=(\S+)", log) for each in line.split(",")}
    return stored_once - files - evicted


def check_no_refund(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Nothing that was spent or reserved has become less."""
    for entry, (_, settled) in before["closed"].items():
        assert after["closed"][entry][1] >= settled, f"entry {entry} was refunded"
    for entry, reserved in before["open"].items():
        # Left open by a kill: closed by the next start, at what was reserved.
        assert after["closed"][entry][1] >= reserved, f"entry {entry} was refunded"


def check_live_model(state: Path) -> str:
    """The model that is live has the tensors that its card was written for; returns its version."""
    live: str = json.loads((state / "models" / "live.json").read_bytes())["version"]
    folder = state / "models" / live
    card = decode_card((folder / "card.json").read_bytes(), live)
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == card.sha256
    return live


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no resident set")


def dice(*seed: object) -> random.Random:
    """Dice that fall the same in every run of the same test."""
    return random.Random("-".join(map(str, seed)))
