"""Senders that follow the wire protocol: DEALER sockets with a limited number of unanswered frames."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from types import TracebackType

import msgspec
import zmq

#: Seconds without any answer after which a daemon counts as stuck.
_STUCK = 30.0


class Stuck(RuntimeError):  # noqa: N818 - the name states what happened
    """Error: frames were sent and no answer came within ``_STUCK`` seconds."""


@dataclass
class Tally:
    """Counts of the frames of one stretch by their answers, and the seconds until each answer."""

    sent: int = 0
    kept: int = 0
    dropped: int = 0
    refused: int = 0
    overflow: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    #: Kept frames by the scale that they are stored at.
    scales: Counter[float] = field(default_factory=Counter)

    @property
    def answered(self) -> int:
        """Frames that got an answer of any kind."""
        return self.kept + self.dropped + self.refused + self.overflow


class _Ack(msgspec.Struct):
    """The part of an answer that is counted."""

    ok: bool = True
    kept: bool = False
    error: str = ""
    seq: int | None = None
    scale: float | None = None


class Cameras:
    """Several cameras, all of them sent from the caller's thread."""

    def __init__(self, endpoint: str, names: Sequence[str], frames: Sequence[bytes], window: int) -> None:
        """Connect.

        Args:
            endpoint: Endpoint of the daemon's frames.
            names: Names of the cameras, one socket for each.
            frames: JPEGs, sent in turn.
            window: Frames of each camera that may wait for an answer at a time.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._frames = frames
        self._names = names
        self._window = window
        self._poller = zmq.Poller()
        self._sockets = []
        # By camera: when each frame without an answer was sent, by its number.
        self._sent_at: list[dict[int, float]] = [{} for _ in names]
        self._seq = [0] * len(names)
        for _ in names:
            socket = self._context.socket(zmq.DEALER)
            socket.linger = 0
            socket.sndhwm = socket.rcvhwm = 4 * window
            socket.connect(endpoint)
            self._poller.register(socket, zmq.POLLIN)
            self._sockets.append(socket)

    def __enter__(self) -> Cameras:
        """The sockets are connected already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        for socket in self._sockets:
            socket.close(linger=0)
        self._context.term()

    def stream(
        self, frames_each: int, fps: float | None = None, label: Callable[[int], bytes | None] | None = None
    ) -> Tally:
        """Send frames and wait for all answers.

        Args:
            frames_each: Number of frames of each camera.
            fps: Frames a second of each camera, on a schedule that waits for answers only when the window is
                full; None for as many as the window allows.
            label: Gives the label (PNG) of a frame from its index among ``frames``; None for no labels.

        Returns:
            The counts and times of these frames.

        Raises:
            Stuck: The daemon does not answer.
        """
        tally = Tally()
        count = len(self._names)
        sent = [0] * count
        started = heard = time.monotonic()
        while tally.answered < frames_each * count:
            now = time.monotonic()
            wait = _STUCK
            for camera in range(count):
                while sent[camera] < frames_each and len(self._sent_at[camera]) < self._window:
                    # Cameras are not in step with each other.
                    due = (sent[camera] + camera / count) / fps + started if fps else now
                    if due > now:
                        wait = min(wait, due - now)
                        break
                    self._send(camera, label)
                    sent[camera] += 1
                    tally.sent += 1
            for socket, _ in self._poller.poll(ceil(1000 * wait)):
                heard = self._receive(self._sockets.index(socket), tally)
            if time.monotonic() - heard > _STUCK and tally.sent > tally.answered:
                raise Stuck(f"{tally.sent - tally.answered} frames have no answer after {_STUCK:g} s")
        tally.seconds = time.monotonic() - started
        return tally

    def _send(self, camera: int, label: Callable[[int], bytes | None] | None) -> None:
        number = self._seq[camera]
        self._seq[camera] += 1
        header = {
            "v": 1,
            "camera": self._names[camera],
            "seq": number,
            "captured_at": time.time(),
            "encoding": "jpeg",
        }
        parts = [json.dumps(header).encode(), self._frames[number % len(self._frames)]]
        mask = label(number % len(self._frames)) if label else None
        self._sent_at[camera][number] = time.monotonic()
        self._sockets[camera].send_multipart(parts if mask is None else [*parts, mask])

    def _receive(self, camera: int, tally: Tally) -> float:
        """Count all answers that have arrived; returns the monotonic time of it."""
        now = time.monotonic()
        unanswered = self._sent_at[camera]
        while True:
            try:
                ack = msgspec.json.decode(self._sockets[camera].recv_multipart(zmq.NOBLOCK)[-1], type=_Ack)
            except zmq.Again:
                return now
            # A refusal may come without a number: it is then counted for the oldest frame.
            number = ack.seq if ack.seq in unanswered else next(iter(unanswered))
            tally.latencies.append(now - unanswered.pop(number))
            if not ack.ok:
                overflow = ack.error.startswith("overflow")
                tally.overflow += overflow
                tally.refused += not overflow
            elif ack.kept:
                tally.kept += 1
                tally.scales[ack.scale or 1.0] += 1
            else:
                tally.dropped += 1
