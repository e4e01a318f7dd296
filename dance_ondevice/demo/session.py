"""Streams the synthetic camera to a running daemon, phase by phase, and receives answers and masks."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from dance_ondevice.daemon.control import client
from dance_ondevice.daemon.control.instances import DaemonFile
from dance_ondevice.daemon.wire import codec as wire
from dance_ondevice.daemon.wire.messages import VERSION, Header, MaskMessage, Reply
from dance_ondevice.demo import records, scrape
from dance_ondevice.demo.process import DaemonProcess
from dance_ondevice.images import codec as images
from dance_ondevice.images import headers as image_headers

log = logging.getLogger(__name__)

#: (index, condition) -> (bgr (H, W, 3) uint8, label (H, W) uint8).
Render = Callable[[int, str], tuple[NDArray[np.uint8], NDArray[np.uint8]]]

#: Share of the time of a drifted phase, as a multiple of that of another phase.
_DRIFTED_SHARES = 2
_STATUS_SECONDS = 1.0
#: Seconds to wait for outstanding answers when the stream ends.
_DRAIN_SECONDS = 10.0


@dataclass(frozen=True)
class PhasePlan:
    """A stretch of the stream. It ends when enough of its rounds have ended.

    Attributes:
        name: Unique name.
        condition: Condition to render.
        drifted: Whether the first model was trained without this condition.
        rounds: Fewest rounds that must have ended.
        promotions: Fewest of these that must have been promoted.
        most_rounds: Number of ended rounds after which the phase ends whatever their outcomes.
    """

    name: str
    condition: str
    drifted: bool
    rounds: int = 2
    promotions: int = 0
    most_rounds: int = 4

    def is_learnt(self, outcomes: Sequence[str | None]) -> bool:
        """Whether the outcomes of the phase's rounds let it end; None stands for a running round."""
        judged = len(outcomes) - outcomes.count(None)
        promoted = outcomes.count("promoted") >= self.promotions
        return judged >= self.most_rounds or (judged >= self.rounds and promoted)

    def may_suffice(self, outcomes: Sequence[str | None]) -> bool:
        """Whether no further round is needed if those that run are promoted."""
        return self.is_learnt([outcome or "promoted" for outcome in outcomes])


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How the camera sends: frames a second, number of frames for each label, and JPEG quality."""

    camera: str = "street"
    fps: float = 10.0
    label_every: int = 2
    quality: int = 90


@dataclass(frozen=True, kw_only=True)
class PhaseRecord:
    """The record of one phase; ``started_at`` is wall-clock time, ``seconds`` monotonic.

    ``rounds`` is the number of rounds that started in it and ended before it did; ``capped`` is whether its
    time limit ended it.
    """

    plan: PhasePlan
    started_at: float
    seconds: float
    frames: int
    masks: int
    live_version: str | None
    rounds: int
    capped: bool
    scrape: scrape.Scrape


@dataclass(kw_only=True)
class Progress:
    """The present state of the stream, which the loop updates and displays read."""

    phase: str = ""
    phase_seconds: float = 0.0
    phase_share: float = 0.0
    sent: int = 0
    answered: int = 0
    kept: int = 0
    dropped: int = 0
    refused: int = 0
    masks: int = 0
    live_version: str | None = None
    frozen_version: str | None = None
    round_text: str = "no round yet"
    dropped_by_scale: Counter[float] = field(default_factory=Counter)


class CameraLink:
    """The camera's side of the wire: a DEALER for frames and their answers, a SUB for masks."""

    def __init__(self, facts: DaemonFile, options: StreamOptions, progress: Progress) -> None:
        self._facts = facts
        self._options = options
        self._progress = progress
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()

    def __enter__(self) -> CameraLink:
        """Connect both sockets."""
        self._frames = self._context.socket(zmq.DEALER)
        self._masks = self._context.socket(zmq.SUB)
        for channel in (self._frames, self._masks):
            channel.linger = 0
            self._poller.register(channel, zmq.POLLIN)
        self._frames.connect(self._facts.ingest[0])
        self._masks.subscribe(f"mask/{self._options.camera}".encode())
        if self._facts.inference is not None:
            self._masks.connect(self._facts.inference)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the sockets; unsent frames are dropped."""
        self._context.destroy(linger=0)

    def send(self, seq: int, frame: NDArray[np.uint8], label: NDArray[np.uint8] | None, now: float) -> None:
        """Send one frame in wire version 1, with its label if there is one."""
        header = Header(v=VERSION, camera=self._options.camera, seq=seq, captured_at=now, encoding="jpeg")
        image = images.encode_jpeg(frame, self._options.quality)
        png = images.encode_label(label) if label is not None else None
        self._frames.send_multipart(wire.frame_parts(header, image, png))
        self._progress.sent += 1

    def receive(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for an answer or a mask, then process all that have arrived."""
        ready = dict(self._poller.poll(max(0, round(timeout * 1000))))
        while self._frames in ready or self._masks in ready:
            if self._frames in ready:
                self._answer(wire.parse_reply(self._frames.recv_multipart()[-1]))
            if self._masks in ready:
                self._mask(wire.parse_mask(self._masks.recv_multipart()))
            ready = dict(self._poller.poll(0))

    def _answer(self, reply: Reply) -> None:
        progress = self._progress
        progress.answered += 1
        if not reply.ok:
            progress.refused += 1
            log.warning("frame refused seq=%s error=%s", reply.seq, reply.error)
        elif reply.kept:
            progress.kept += 1
        else:
            progress.dropped += 1
            progress.dropped_by_scale[reply.scale or 1.0] += 1

    def _mask(self, mask: MaskMessage) -> None:
        # A mask counts only if it is a readable image.
        image_headers.probe(mask.png)
        self._progress.masks += 1


class Stream:
    """Sends the phases' frames, in the caller's thread."""

    def __init__(
        self,
        daemon: DaemonProcess,
        facts: DaemonFile,
        render: Render,
        options: StreamOptions,
        *,
        on_progress: Callable[[Progress], None],
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._daemon = daemon
        self._facts = facts
        self._render = render
        self._options = options
        self._on_progress = on_progress
        self._now = now
        self._monotonic = monotonic
        self.progress = Progress()

    def run(self, plans: Sequence[PhasePlan], seconds: float) -> list[PhaseRecord]:
        """Stream all phases, each until its rounds are judged, in at most ``seconds`` together.

        A phase whose rounds take longer ends at its share of the remaining time; drifted phases get twice the
        share of others. Unused time goes to later phases. No round starts after the last phase.

        Raises:
            DaemonDied: The daemon ended.
            OSError, ClientError: The daemon no longer answers.
        """
        found = []
        deadline = self._monotonic() + seconds
        with CameraLink(self._facts, self._options, self.progress) as link:
            for index, plan in enumerate(plans):
                shares = [_DRIFTED_SHARES if p.drifted else 1 for p in plans[index:]]
                share = (deadline - self._monotonic()) * shares[0] / sum(shares)
                found.append(self._phase(link, plan, share, last=plan is plans[-1]))
            found[-1] = self._drain(link, found[-1])
        return found

    def _phase(self, link: CameraLink, plan: PhasePlan, share: float, *, last: bool) -> PhaseRecord:
        progress, start, started_at = self.progress, self._monotonic(), self._now()
        first_frame, first_mask = progress.sent, progress.masks
        outcomes: list[str | None] = []
        paused, learnt = False, False
        progress.phase, progress.phase_share = plan.name, share
        due = looked = start
        while (now := self._monotonic()) - start < share:
            if now >= due:
                self._send_next(link, plan.condition)
                # A board that falls behind sends fewer frames instead of catching up in a burst.
                due = max(due + 1 / self._options.fps, now)
            link.receive(min(0.1, max(0.0, due - self._monotonic())))
            if now - looked >= _STATUS_SECONDS:
                looked = now
                self._poll_status(now - start)
                outcomes = records.outcomes(self._daemon.paths, started_at)
                learnt = plan.is_learnt(outcomes)
                if learnt:
                    break
                if last and plan.may_suffice(outcomes) != paused:
                    # A further round would be interrupted by the end of the daemon; where the one that ran
                    # was not promoted, it is needed all the same.
                    paused ^= self._hold(not paused)
        log.info("phase ended name=%s seconds=%.1f", plan.name, self._monotonic() - start)
        self._poll_status(self._monotonic() - start)
        return PhaseRecord(
            plan=plan,
            started_at=started_at,
            seconds=self._monotonic() - start,
            frames=progress.sent - first_frame,
            masks=progress.masks - first_mask,
            live_version=progress.live_version,
            rounds=len(outcomes) - outcomes.count(None),
            capped=not learnt,
            scrape=self._scrape(),
        )

    def _send_next(self, link: CameraLink, condition: str) -> None:
        seq = self.progress.sent
        frame, label = self._render(seq, condition)
        link.send(seq, frame, label if seq % self._options.label_every == 0 else None, self._now())

    def _poll_status(self, phase_seconds: float) -> None:
        try:
            status = self._daemon.status()
        except client.NotRunning:
            # The daemon has ended, for which check() raises, or it is merely slow to answer.
            self._daemon.check()
            return
        progress = self.progress
        progress.phase_seconds = phase_seconds
        progress.live_version = status.get("version")
        progress.frozen_version = status.get("frozen_version")
        progress.round_text = describe_rounds(status.get("rounds") or {})
        self._on_progress(progress)

    def _hold(self, hold: bool) -> bool:
        """Let no further round start, or let them again; returns whether the daemon answered."""
        try:
            (self._daemon.pause if hold else self._daemon.resume)()
        except client.NotRunning:  # as in ``_poll_status``; it is asked again
            self._daemon.check()
            return False
        return True

    def _drain(self, link: CameraLink, last: PhaseRecord) -> PhaseRecord:
        """Wait for outstanding answers, so that the daemon's counts and the camera's agree."""
        end = self._monotonic() + _DRAIN_SECONDS
        while self.progress.answered < self.progress.sent and self._monotonic() < end:
            link.receive(0.1)
            self._daemon.check()
        link.receive(0.2)
        return PhaseRecord(**{**vars(last), "scrape": self._scrape()})

    def _scrape(self) -> scrape.Scrape:
        if self._facts.metrics is None:
            raise OSError("the daemon serves no metrics")
        return scrape.fetch(self._facts.metrics)


def describe_rounds(rounds: Mapping[str, Any]) -> str:
    """Describe ``rounds`` of the daemon's status in a few words."""
    counts = ", ".join(
        f"{rounds[outcome]} {outcome}"
        for outcome in ("promoted", "rejected", "stopped", "failed")
        if rounds.get(outcome)
    )
    done = f"{rounds.get('count', 0)} done" + (f" ({counts})" if counts else "")
    if rounds.get("running"):
        step = f", step {rounds['step']} of {rounds['steps']}" if rounds.get("steps") else ""
        return f"round {rounds['running']} runs{step}; {done}"
    return f"{done}; next: {rounds.get('waiting_for') or 'waiting for samples'}"
