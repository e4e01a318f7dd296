"""Sends frames: each is stored at most once and none is forgotten, even when the daemon restarts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, TypeAlias

import zmq

from dance_ondevice.daemon.security.curve import ClientCurve
from dance_ondevice.daemon.wire import codec as wire
from dance_ondevice.daemon.wire.links import AnsweredLink, Link, PublishedLink
from dance_ondevice.daemon.wire.messages import VERSION, Buffer, Header, WireError
from dance_ondevice.daemon.wire.sources import Source, SourceFrame

__all__ = ["FrameSender", "Pattern", "StreamSummary", "stream"]

Pattern: TypeAlias = Literal["req", "dealer", "pub"]

#: Longest wait of one step, in seconds.
_TICK = 1.0
#: Number of distinct error texts that a summary lists.
_MAX_ERRORS = 20
_OTHER_ERRORS = "other errors"
#: Refusals that say only that there was no room for a frame at that moment.
_CROWDED = ("overflow", "rate")
#: Seconds after which such a frame is sent again.
_CROWDED_PAUSE = 0.25


@dataclass(frozen=True, kw_only=True)
class StreamSummary:
    """Counts of the frames by their outcome.

    Every frame counts once, by its first answer, however often it was sent: for answered patterns
    ``sent = kept + dropped + rejected + overflow + unanswered``.

    Attributes:
        sent: Frames handed over.
        labelled: Frames among them with a label.
        unanswered: Frames without an answer.
        resent: Transmissions beyond the first of each frame.
        bytes: Bytes of images and labels, without repeated transmissions.
        seconds: Seconds from the first frame to the summary.
        scales: Kept frames by scale.
        errors: Refusals by error text.
        passed_over: Entries of the source's folder that were not sent, by kind.
    """

    sent: int
    labelled: int
    kept: int
    dropped: int
    rejected: int
    overflow: int
    unanswered: int
    resent: int
    bytes: int
    seconds: float
    scales: Mapping[str, int]
    errors: Mapping[str, int]
    passed_over: Mapping[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every frame was answered and none was refused."""
        return self.rejected == self.overflow == self.unanswered == 0


@dataclass(slots=True)
class _InFlight:
    """A frame without an answer: how often and in which connection it was sent, and when it is sent again."""

    parts: tuple[Buffer, ...]
    attempts: int = 0
    epoch: int = 0
    due: float = 0.0


class FrameSender:
    """Sends the frames of one camera.

    With ``dealer``, up to ``window`` frames are in flight at once; with ``req``, one. A frame that is not
    answered is sent again with the same header, after a reconnection or a timeout, and the daemon recognises
    it. With ``pub`` nothing is answered, and a frame counts as sent once it has left.

    A frame for which the daemon has no room is lost, since a camera's next one is worth more. Stored footage
    has no next one: with ``patient`` it is sent again a moment later, and fewer frames are in flight from
    then on, until answers come again (additive increase, multiplicative decrease, as in TCP).
    """

    def __init__(
        self,
        endpoint: str,
        *,
        camera: str,
        context: zmq.Context[Any],
        pattern: Pattern = "dealer",
        window: int = 16,
        answer_timeout: float = 10.0,
        max_attempts: int = 5,
        patience: float = 1.0,
        patient: bool = False,
        curve: ClientCurve | None = None,
        on_wait: Callable[[str], None] = lambda endpoint: None,
        on_complaint: Callable[[str, str], None] = lambda endpoint, why: None,
        on_answer: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the socket without waiting for a connection.

        Args:
            endpoint: The daemon's endpoint (tcp or ipc); for ``pub`` the one that the daemon connects to.
            camera: The camera's name.
            context: Makes the sockets.
            pattern: "req", "dealer" or "pub".
            window: Number of frames in flight at once with ``dealer``.
            answer_timeout: Seconds without an answer after which a frame is sent again.
            max_attempts: Transmissions of one frame to a listening daemon before it is given up.
            patience: Seconds without a listener before ``on_wait`` or ``on_complaint`` is called.
            patient: Whether frames are sent again for which there was no room.
            curve: Keys for encryption; None for a plain connection.
            on_wait: Called with the endpoint once in each period without a listener.
            on_complaint: Called with the endpoint and the reason, once in each period in which a peer is
                there that accepts nothing.
            on_answer: Called for each frame that is finished.
            monotonic: Monotonic clock, in seconds.

        Raises:
            LinkError: The endpoint cannot be used.
        """
        self._link: Link = (
            PublishedLink(context, endpoint, curve=curve)
            if pattern == "pub"
            else AnsweredLink(context, endpoint, lockstep=pattern == "req", curve=curve)
        )
        self.endpoint = self._link.endpoint
        self.camera = camera
        self._most = window if pattern == "dealer" else 1
        self._window = float(self._most)
        self._patient = patient
        self._shrunk_at = -_CROWDED_PAUSE
        self._answer_timeout = answer_timeout
        self._max_attempts = max_attempts
        self._patience = patience
        self._on_wait = on_wait
        self._on_complaint = on_complaint
        self._on_answer = on_answer
        self._monotonic = monotonic
        self._in_flight: dict[int, _InFlight] = {}
        # After a loss, one frame is sent at a time until an answer comes: a frame that makes the daemon
        # disconnect must not use up the attempts of the frames behind it.
        self._careful = False
        self._blocked = False
        self._silent_since: float | None = monotonic()
        self._said: str | None = None
        self._started: float | None = None
        self._counts: Counter[str] = Counter()
        self._scales: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()

    def send(self, frame: SourceFrame, *, seq: int, captured_at: float) -> None:
        """Send a frame, waiting while the window is full.

        Args:
            frame: The image and its label.
            seq: The frame's number, not used before for this camera.
            captured_at: Wall-clock seconds.
        """
        while len(self._in_flight) >= int(self._window):
            self._step(_TICK)
        if self._started is None:
            self._started = self._monotonic()
        header = Header(
            v=VERSION, camera=self.camera, seq=seq, captured_at=captured_at, encoding=frame.encoding
        )
        self._in_flight[seq] = _InFlight(wire.frame_parts(header, frame.image, frame.label))
        self._counts["sent"] += 1
        self._counts["labelled"] += frame.label is not None
        self._counts["bytes"] += len(frame.image) + len(frame.label or b"")
        self._step(0.0)

    def idle(self, until: float) -> None:
        """Process answers until a moment of the monotonic clock."""
        while (left := until - self._monotonic()) > 0:
            self._step(left)

    def has_room(self) -> bool:
        """Process the answers that are there; whether another frame may be sent without waiting."""
        self._step(0.0)
        return len(self._in_flight) < int(self._window)

    def finish(self) -> None:
        """Wait until every frame is finished."""
        while self._in_flight:
            self._step(_TICK)

    def close(self, *, at_once: bool = False) -> None:
        """Close the socket; ``at_once`` also forgets published frames that have not left yet."""
        self._link.close(at_once=at_once)

    @property
    def waits(self) -> bool:
        """Whether nobody has listened for so long that it was reported."""
        return self._silent_since is not None and self._said is not None

    def summary(self) -> StreamSummary:
        """The counts so far; frames still in flight count as unanswered."""
        counts = self._counts
        return StreamSummary(
            sent=counts["sent"],
            labelled=counts["labelled"],
            kept=counts["kept"],
            dropped=counts["dropped"],
            rejected=counts["rejected"],
            overflow=counts["overflow"],
            unanswered=counts["given_up"] + len(self._in_flight),
            resent=counts["resent"],
            bytes=counts["bytes"],
            seconds=0.0 if self._started is None else self._monotonic() - self._started,
            scales=dict(sorted(self._scales.items())),
            errors=dict(self._errors),
        )

    def _step(self, timeout: float) -> None:
        """Send the frames that are due, then wait for an event and process the answers."""
        waiting = len(self._in_flight)
        again = self._transmit()
        finished = len(self._in_flight) < waiting
        wait = 0.0 if finished else min(timeout, max(0.0, again - self._monotonic()))
        self._link.wait(wait, to_send=self._blocked)
        while (answer := self._link.receive()) is not None:
            self._take(answer)
        self._notice_silence()

    def _transmit(self) -> float:
        """Send the frames that are due; returns when the next one is due, on the monotonic clock."""
        now = self._monotonic()
        again = now + _TICK
        self._blocked = False
        for seq, frame in list(self._in_flight.items()):
            if not self._link.listening:
                break
            if frame.epoch == self._link.epoch and now < frame.due:
                again = min(again, frame.due)
                if self._careful:
                    break
                continue
            if frame.attempts >= self._max_attempts:
                self._error(f"no answer after sending it {frame.attempts} times")
                self._done(seq, "given_up")
                continue
            if not self._link.send(frame.parts):
                self._blocked = True
                break
            frame.attempts += 1
            frame.epoch = self._link.epoch
            frame.due = now + self._answer_timeout
            again = min(again, frame.due)
            if not self._link.answers:
                self._done(seq, "published")
            elif frame.attempts > 1:
                self._counts["resent"] += 1
                self._careful = True
                break
        return again

    def _take(self, answer: bytes) -> None:
        self._careful = False
        try:
            reply = wire.parse_reply(answer)
        except WireError as error:
            self._error(str(error))
            return
        if reply.code == "stopping":
            return  # the same as no answer: the frame is sent again once the daemon is back
        seq = reply.seq
        if seq is None and not reply.ok:
            # The daemon could not read whose header it was. A refusal is sent at once, before the answers to
            # frames that are still being processed, so it most likely refers to the newest frame.
            sent = (number for number, frame in reversed(self._in_flight.items()) if frame.attempts)
            seq = next(sent, None)
        if seq not in self._in_flight:
            return  # the answer to an earlier transmission came first
        if self._patient and reply.code in _CROWDED:
            self._give_way(self._in_flight[seq])
            return
        self._window = min(self._most, self._window + 1.0 / self._window)
        if not reply.ok:
            self._error(reply.error or "refused without a reason")
            self._done(seq, "overflow" if reply.code == "overflow" else "rejected")
        elif reply.kept:
            self._scales[f"{reply.scale:g}"] += 1
            self._done(seq, "kept")
        else:
            self._done(seq, "dropped")

    def _give_way(self, frame: _InFlight) -> None:
        now = self._monotonic()
        if now - self._shrunk_at >= _CROWDED_PAUSE:  # one crowd has many refusals
            self._window = max(1.0, self._window / 2)
            self._shrunk_at = now
        # The daemon has answered: this is no attempt that was lost.
        frame.attempts = 0
        frame.due = now + _CROWDED_PAUSE
        self._counts["resent"] += 1

    def _done(self, seq: int, outcome: str) -> None:
        del self._in_flight[seq]
        self._counts[outcome] += 1
        self._on_answer()

    def _error(self, text: str) -> None:
        known = text in self._errors or len(self._errors) < _MAX_ERRORS
        self._errors[text if known else _OTHER_ERRORS] += 1

    def _notice_silence(self) -> None:
        """Report once in each outage that nobody listens, and once why a peer accepts nothing."""
        if self._link.listening:
            self._silent_since = self._said = None
            return
        now = self._monotonic()
        if self._silent_since is None:
            self._silent_since = now
        complaint = self._link.complaint
        if now - self._silent_since < self._patience:
            return
        if complaint and self._said != complaint:
            self._said = complaint
            self._on_complaint(self.endpoint, complaint)
        elif self._said is None:
            self._said = ""
            self._on_wait(self.endpoint)


def stream(
    source: Source,
    sender: FrameSender,
    *,
    fps: float | None = None,
    limit: int | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Send all frames of a source and wait for their answers.

    A camera is not waited for: while there is no room for its frames they are read and left out, since unread
    ones would pile up in the camera's buffers, and all later ones come late by as much.

    Frames are numbered from 0. A live frame was captured when it was read. Stored footage gets times one
    frame interval apart (1 / ``fps``, else the video's own times or rate, else 1 s) that end now: sent again
    tomorrow, it is new footage, while frames that are stored already are still recognised by number and
    content.

    If the source fails, the answers to the frames already sent are still waited for.

    Args:
        source: The frames.
        sender: Sends them.
        fps: The most frames a second; None sends as fast as answers allow. Live frames that come faster are
            left out.
        limit: The most frames to send.
        clock: Wall clock, in seconds.
        monotonic: The sender's clock.

    Raises:
        OSError: The source cannot be read any further.
    """
    total = source.count if limit is None or source.count is None else min(limit, source.count)
    interval = 1.0 / (fps or source.fps or 1.0)
    began = clock()
    frames = islice(_paced(source, sender, fps, monotonic(), monotonic), limit)
    try:
        for seq, frame in enumerate(frames):
            if source.live or total is None:
                captured_at = clock()
            else:
                # Of a recording of variable rate, the count and the rate in its header are estimates.
                since = seq * interval if fps or frame.at is None else frame.at
                captured_at = min(began - (total - 1) * interval + since, clock())
            sender.send(frame, seq=seq, captured_at=round(captured_at, 6))
    except OSError:
        sender.finish()
        raise
    sender.finish()


def _paced(
    source: Source, sender: FrameSender, fps: float | None, began: float, monotonic: Callable[[], float]
) -> Iterator[SourceFrame]:
    due = began
    for frame in source:
        if source.endless and not sender.has_room():
            continue
        if fps and source.live:
            if monotonic() < due:
                continue
            due = max(due + 1.0 / fps, monotonic())
        elif fps:
            sender.idle(due)
            due += 1.0 / fps
        yield frame
