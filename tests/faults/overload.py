"""A sender that offers frames at ten times the rate that the board takes, and what becomes of them.

Usage: python tests/faults/overload.py [--seconds N]

Also run, for some seconds, by ``test_overload.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parent.parent / "helpers")]

from daemon_process import Daemon  # noqa: E402
from ingest_harness import header, jpeg  # noqa: E402
from senders import PRIORITY, resident_bytes  # noqa: E402

#: Of the rate at which one frame after the other is answered.
FACTOR = 10
#: Frames without an answer at most, many times what the service queues: more would fill the sender's memory.
UNANSWERED = 4096
_SIZE = (240, 320)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was seen.

    Attributes:
        capacity: frames a second that the board took with one sender that waits for its answers.
        offered: frames a second that were then sent.
        sent: frames in all.
        counted: frames by outcome, as the daemon counts them.
        resident: bytes, once a second.
        mask_delays: of the newest mask behind the newest frame sent, in frames, once a second.
        masks: how many came.
    """

    capacity: float
    offered: float
    sent: int
    counted: dict[str, int]
    resident: tuple[int, ...]
    mask_delays: tuple[int, ...]
    masks: int


def overload(folder: Path, seconds: float) -> Report:
    """Run a daemon with inference, find out what it takes, and send ten times that."""
    daemon = Daemon(folder, inference=True, engine="auto", priority=PRIORITY)
    daemon.start()
    assert daemon.process is not None
    try:
        with zmq.Context() as context, context.socket(zmq.DEALER) as sender, context.socket(zmq.SUB) as masks:
            sender.linger = masks.linger = -1
            # The sender never waits: what the daemon does not fetch in time must give way there, not here.
            sender.sndhwm = sender.rcvhwm = 0
            sender.connect(daemon.facts["ingest"][0])
            masks.connect(daemon.facts["inference"])
            masks.subscribe(b"")
            run = _Run(daemon, sender, masks)
            capacity = run.closed_loop(max(2.0, min(10.0, seconds / 10)))
            run.open_loop(FACTOR * capacity, seconds)
            run.settle()
            masks.linger = 0
            return Report(
                capacity=capacity,
                offered=run.offered,
                sent=run.sent,
                counted=daemon.ask("status")["frames"],
                resident=tuple(run.resident),
                mask_delays=tuple(run.delays),
                masks=run.masks,
            )
    finally:
        daemon.stop()


class _Run:
    def __init__(self, daemon: Daemon, sender: Any, masks: Any) -> None:
        self._daemon = daemon
        self._sender = sender
        self._masks = masks
        self._pictures = [jpeg(number, *_SIZE) for number in range(16)]
        self.sent = self.answered = self.masks = 0
        self.answers: Counter[str] = Counter()
        self.offered = 0.0
        self.resident: list[int] = []
        self.delays: list[int] = []
        self._newest_mask = -1

    def closed_loop(self, seconds: float) -> float:
        """One frame after the other; returns how many a second."""
        started = time.monotonic()
        while time.monotonic() < started + seconds:
            self._send()
            self._take(wait_ms=30_000)
        return self.answered / (time.monotonic() - started)

    def open_loop(self, rate: float, seconds: float) -> None:
        """Send at a rate, whatever comes back; at a higher one as long as the board takes it all.

        A board that was busy while its rate was measured takes more once it is free.
        """
        before = self.sent
        started = since = time.monotonic()
        due = 0.0
        look_at = started + 1
        while (now := time.monotonic()) < started + seconds:
            due, since = due + (now - since) * rate, now
            # Bounded, so that answers and masks are looked at as well.
            for _ in range(min(int(due), 64)):
                if self.sent - self.answered >= UNANSWERED:
                    due = 0.0
                    break
                self._send()
                due -= 1
            self._take()
            if now >= look_at:
                look_at = now + 1
                if not self.answers["overflow"]:
                    rate *= 2
                assert self._daemon.process is not None
                self.resident.append(resident_bytes(self._daemon.process.pid))
                if self._newest_mask >= 0:
                    self.delays.append(self.sent - 1 - self._newest_mask)
            if due < 1:
                self._sender.poll(1)
        self.offered = (self.sent - before) / (time.monotonic() - started)

    def settle(self) -> None:
        """Until each frame has its answer."""
        deadline = time.monotonic() + 120
        while self.answered < self.sent:
            assert time.monotonic() < deadline, (self.sent, self.answered)
            self._take(wait_ms=100)

    def _send(self) -> None:
        seq = self.sent
        head = header(camera="fast", seq=seq, captured_at=1_700_000_000.0 + seq / 100)
        self._sender.send_multipart([head, self._pictures[seq % len(self._pictures)]], copy=True)
        self.sent += 1

    def _take(self, wait_ms: int = 0) -> None:
        if wait_ms:
            self._sender.poll(wait_ms)
        for parts in _waiting(self._sender):
            reply = json.loads(parts[-1])
            self.answers["kept" if reply.get("kept") else reply.get("code", "dropped")] += 1
            self.answered += 1
        for parts in _waiting(self._masks):
            if not parts[0].startswith(b"mask/"):
                continue  # names of classes
            self.masks += 1
            self._newest_mask = json.loads(parts[1])["seq"]


def _waiting(socket: Any) -> Iterator[list[bytes]]:
    while True:
        try:
            yield socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return


def growth(report: Report) -> float:
    """Of the resident memory after the first third, as a share of what it was then."""
    third = len(report.resident) // 3
    return max(report.resident[third:]) / report.resident[third] - 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = overload(Path(folder), arguments.seconds)
    exact = sum(report.counted.values()) == report.sent
    print(
        f"capacity {report.capacity:.0f}/s, offered {report.offered:.0f}/s "
        f"({report.offered / report.capacity:.1f} x), sent {report.sent}, counted {report.counted}, "
        f"{'exact' if exact else 'NOT EXACT'}; resident {report.resident[0] >> 20} to "
        f"{max(report.resident) >> 20} MiB, growth after a third {growth(report):.1%}; {report.masks} masks, "
        f"newest mask at worst {max(report.mask_delays, default=-1)} frames "
        "behind the newest frame sent"
    )
    return 0 if exact and growth(report) < 0.2 else 1


if __name__ == "__main__":
    sys.exit(main())
