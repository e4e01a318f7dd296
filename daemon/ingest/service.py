"""Ingest: frames and labels come in over ZMQ, are judged in order, and are answered once they are safe.

The loop takes what has arrived into a short queue, gives a few messages to workers, decides on what they have
measured, hands to the store what they have encoded, and sends the answers of samples that are durable. Others
answer on their own threads; since sockets and decisions belong to this one, they leave a note and wake it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import zmq

from dance_ondevice.complexity import Indicator
from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.ingest.admission import Admission, about
from dance_ondevice.daemon.ingest.backlog import Backlog, Queued
from dance_ondevice.daemon.ingest.cameras import Cameras
from dance_ondevice.daemon.ingest.decision import Judge, Judged, Measured, new_sample, pending_frame
from dance_ondevice.daemon.ingest.line import InWork, Line
from dance_ondevice.daemon.ingest.mailbox import LatestFrames
from dance_ondevice.daemon.ingest.pixels import (
    CheckedLabel,
    check_label_png,
    declared_pixels,
    one_thread_an_image,
)
from dance_ondevice.daemon.ingest.settings import IngestInstruments, SampleStore, not_stored
from dance_ondevice.daemon.security.curve import ServerCurve
from dance_ondevice.daemon.store.samples import Stored, StoreError
from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.system.workers import Workers
from dance_ondevice.daemon.wire import codec as wire
from dance_ondevice.daemon.wire.connections import Watch
from dance_ondevice.daemon.wire.messages import ForeignFrame, Goodbye, LabelMessage, WireError
from dance_ondevice.daemon.wire.receiver import Origin, Received, Receiver
from dance_ondevice.policies.stream.data_slimming import SlimmingRules

__all__ = ["Ingest"]

log = logging.getLogger(__name__)

#: Seconds that a stop may spend on what was received: queued messages and answers from the store.
_FINISH_SECONDS = 1.5
#: Seconds between two log lines about refusals for the same reason; the counter has them all.
_LOG_EVERY = 10.0
#: Messages in work for each worker: enough that none waits while this thread decides, few enough that those
#: which wait do so in the queue, where a newer one may take their place.
_IN_WORK = 8


@dataclass(frozen=True, slots=True)
class _Answer:
    """What to do, on the ingest thread, when the store is done with a message."""

    item: Queued
    send: Callable[[], None]
    size: int


class Ingest(Service):
    """The thread that owns the sockets of frames and labels; others may set the rules of its ``judge``.

    Every frame that arrives ends in exactly one of kept, dropped, rejected and overflow. Labels for earlier
    samples are no frames: they count only when they are refused.
    """

    def __init__(
        self,
        settings: sections.Ingest,
        *,
        context: zmq.Context[Any],
        indicator: Indicator,
        rules: SlimmingRules,
        n_classes: int,
        store: SampleStore,
        mailbox: LatestFrames | None,
        instruments: IngestInstruments,
        condition_of: Callable[[str], str] = lambda _camera: "",
        admission: Admission | None = None,
        curve: ServerCurve | None = None,
        publishers: tuple[str, ...] = (),
        watch: Watch | None = None,
        cameras: Iterable[tuple[str, int]] = (),
        workers: int = 2,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened before ``start``.

        Args:
            settings: ``[ingest]`` of the configuration: addresses and limits.
            context: makes the sockets.
            indicator: scores frames.
            rules: decide what follows from a score.
            n_classes: number of classes that labels may use.
            store: takes what is kept.
            mailbox: gets every good frame for inference; None when nobody infers.
            instruments: count.
            condition_of: tells the condition that a camera is in; "" where nobody knows.
            admission: says who may send; None lets in everybody who can connect.
            curve: encrypts the sockets and admits known clients alone; None for plain ones.
            publishers: with CURVE, the names of the clients behind ``subscribe``, in its order.
            cameras: of which samples are kept, with their number; see ``stored_cameras``.
            watch: bounds the connections of senders; None for no bound.
            workers: threads that decode and encode.
            clock: wall-clock seconds.
            monotonic: seconds for durations.
        """
        super().__init__("ingest")
        self._settings = settings
        self._publishers = publishers
        self._watch = watch
        #: Most bytes that wait in the queue, and again those that wait for the store.
        self._queue_bytes = 2 * settings.max_message_bytes
        self._cameras = Cameras(settings.max_cameras, on_forgotten=instruments.forget, monotonic=monotonic)
        self._cameras.remember(cameras)
        self.judge = Judge(
            indicator=indicator,
            rules=rules,
            n_classes=n_classes,
            max_pixels=settings.max_pixels,
            cameras=self._cameras,
            condition_of=condition_of,
        )
        self._context = context
        self._n_classes = n_classes
        self._store = store
        self._mailbox = mailbox
        self._instruments = instruments
        self._admission = admission or Admission()
        self._curve = curve
        self._clock = clock
        self._monotonic = monotonic
        self._opened: Receiver | None = None
        self._backlog = Backlog(settings.queue_frames, self._queue_bytes)
        self._answers: SimpleQueue[_Answer] = SimpleQueue()
        self.workers = (Workers("ingest-work", workers, one_thread_an_image),)
        self._line = Line(
            self.workers[0],
            max_messages=_IN_WORK * workers,
            max_pixels=settings.max_pixels,
            done=self.wake,
        )
        self._awaited = 0
        self._awaited_bytes = 0
        self._logged_at: dict[str, float] = {}

    def forget_camera(self, name: str) -> None:
        """Free a camera's name; callable from any thread."""
        self._cameras.forget(name)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where senders connect to, with real ports in place of wildcards; empty before ``start``."""
        return self._opened.endpoints if self._opened else ()

    @property
    def visited_endpoints(self) -> tuple[str, ...]:
        """Where PUB senders connect to, with real ports in place of wildcards; empty before ``start``."""
        return self._opened.visited_endpoints if self._opened else ()

    def setup(self) -> None:
        """Open the sockets.

        Raises:
            AddressInUse: another program listens on an address of the configuration.
            ListenError: an endpoint cannot be used.
        """
        self._opened = Receiver(
            self._context,
            bind=self._settings.bind,
            subscribe=self._settings.subscribe,
            subscribe_bind=self._settings.subscribe_bind,
            # What is a little too large gets an answer; ZMQ cuts off what would fill the memory.
            max_part_bytes=2 * self._settings.max_message_bytes,
            curve=self._curve,
            publishers=self._publishers,
            watch=self._watch,
        )
        told = (self.endpoints, self._settings.subscribe, self.visited_endpoints)
        log.info("ingest ready bind=%s subscribe=%s subscribe_bind=%s", *(",".join(each) for each in told))

    def run(self) -> None:
        """Receive, decide, answer, until stopped; then finish what was received."""
        receiver = self._receiver
        while not self.stopping.is_set():
            self.beat()
            receiver.wait(0.0 if self._can_work() else 1.0)
            if self._admission.look():
                receiver.tend()
            for received in receiver.drain(self._settings.queue_frames):
                self._take(received)
            self._advance()
        self._finish()

    def wake(self) -> None:
        """End the wait for messages; callable from any thread."""
        if self._opened is not None:
            self._opened.wake()

    def teardown(self) -> None:
        """End the workers and close the sockets."""
        for workers in self.workers:
            workers.close()
        if self._opened is not None:
            self._opened.close()

    @property
    def _receiver(self) -> Receiver:
        if self._opened is None:
            raise RuntimeError("setup() opens the sockets")
        return self._opened

    def _can_work(self) -> bool:
        """Whether a message waits, and workers and store keep up."""
        return (
            bool(self._backlog)
            and self._line.has_room
            and self._awaited + len(self._line) < self._settings.queue_frames
            and self._awaited_bytes + self._line.size < self._queue_bytes
        )

    def _advance(self) -> None:
        """Take every message as far as it can go now."""
        self._send_answers()
        for work in self._line.measured():
            self._attempt(work.item, partial(self._decide, work))
            if not isinstance(work.item.message, LabelMessage):
                self._instruments.ingest_seconds(self._monotonic() - work.started)
        self._hand_over()
        while self._can_work():
            self._begin(self._backlog.pop())

    def _take(self, received: Received) -> None:
        """Refuse a bad message at once; queue a good one, at the cost of another if there are too many."""
        beyond = self._admission.draw(received.origin, received.size)
        try:
            message = wire.parse(received.parts, self._settings, received.count)
            if isinstance(message, Goodbye):
                self._receiver.reply(received.origin, wire.farewell())
                return
            share = self._admission.admit(received.origin, message, beyond)
        except WireError as error:
            self._refuse(received.origin, error, is_frame=error.sample_id is None)
            return
        item = Queued(received.origin, message, received.size, self._monotonic(), self._clock(), share)
        for oldest in self._backlog.push(item):
            self._overflow(oldest)

    def _overflow(self, item: Queued) -> None:
        error = WireError("overflow", "overflow: the queue is full, mostly with messages like this one")
        if isinstance(item.message, LabelMessage):
            self._instruments.refused(error.reason)
        else:
            self._instruments.frame(self._counted_as(item.message.camera), "overflow")
        self._receiver.reply(item.origin, wire.refused(about(item.message, error)))

    def _begin(self, item: Queued) -> None:
        """Have the workers check and measure a message."""
        message = item.message
        if isinstance(message, LabelMessage):
            pixels = declared_pixels(message.label, None)
            measure: Callable[[], Measured | CheckedLabel] = partial(
                check_label_png,
                message.label,
                size=None,
                max_pixels=self._settings.max_pixels,
                n_classes=self._n_classes,
            )
        else:
            pixels = declared_pixels(message.image, message.shape)
            measure = partial(self.judge.measure, message)
        self._line.begin(item, self._monotonic(), pixels, measure)

    def _decide(self, work: InWork) -> None:
        """Decide on a message that was measured."""
        found, message = work.measured.result(), work.item.message
        if isinstance(found, CheckedLabel):
            work.label = found
            self._line.proceed(work, None)
            return
        assert not isinstance(message, LabelMessage)
        judged = work.judged = self.judge.decide(
            message, found, work.item.arrived_at, work.item.origin.source
        )
        self._instruments.dated(judged.camera, judged.captured_at - judged.arrived_at)
        if not judged.again and not judged.sign_of_life:
            self._instruments.score(judged.camera, judged.score)
            self._instruments.scale(judged.camera, judged.decision.scale)
            self._instruments.decided(judged.camera, judged.decision, judged.standing)
        if judged.decision.keep:
            self._line.proceed(work, partial(new_sample, judged))
            return
        self._line.proceed(work, None)
        self._hand_over()
        self._instruments.frame(judged.camera, "dropped")
        self._acknowledge(work.item, judged, None)

    def _hand_over(self) -> None:
        """Give inference and the store what is theirs, in the order of arrival."""
        for work in self._line.encoded():
            give = self._give_frame if work.label is None else self._give_label
            self._attempt(work.item, partial(give, work))

    def _give_frame(self, work: InWork) -> None:
        assert work.judged is not None
        item, judged = work.item, work.judged
        # Whether the colours can be decoded shows only here, so inference gets the frame after this.
        sample = work.sample.result() if work.sample is not None else None
        if self._mailbox is not None and not judged.sign_of_life:
            self._mailbox.offer(pending_frame(judged, item.received))
        if sample is None:
            return
        stored = self._store.add_sample(sample)

        def answer() -> None:
            promise = stored.result()
            self._instruments.frame(judged.camera, "kept")
            self._acknowledge(item, judged, promise)

        self._await(stored, _Answer(item, answer, item.size + sample.size))

    def _give_label(self, work: InWork) -> None:
        item, label, message = work.item, work.label, work.item.message
        assert isinstance(message, LabelMessage)
        assert label is not None
        done = self._store.add_label(message.sample_id, label.png, label.classes, "wire")

        def answer() -> None:
            done.result()
            self._receiver.reply(item.origin, wire.labelled(message.sample_id))

        self._await(done, _Answer(item, answer, item.size))

    def _acknowledge(self, item: Queued, judged: Judged, stored: Stored | None) -> None:
        protocol = item.message.protocol if isinstance(item.message, ForeignFrame) else "v1"
        again = stored is not None and stored.duplicate
        self._receiver.reply(
            item.origin,
            wire.accepted(
                sample_id=stored.id if stored else judged.id,
                camera=judged.camera,
                seq=judged.seq,
                kept=stored is not None,
                score=stored.score if stored and again else judged.score,
                scale=stored.scale if stored and again else judged.decision.scale,
                reason="already stored" if again else judged.reason,
                protocol=protocol,
            ),
        )

    def _await(self, future: Future[Any], answer: _Answer) -> None:
        """Have ``answer`` sent by this thread once the store's thread is done."""
        self._awaited += 1
        self._awaited_bytes += answer.size

        def done(_: Future[Any]) -> None:
            self._answers.put(answer)
            self._receiver.wake()

        future.add_done_callback(done)

    def _send_answers(self) -> None:
        while True:
            try:
                answer = self._answers.get_nowait()
            except Empty:
                return
            self._awaited -= 1
            self._awaited_bytes -= answer.size
            self._attempt(answer.item, answer.send)

    def _attempt(self, item: Queued, step: Callable[[], None]) -> None:
        """Do something for a message, and refuse the message if that fails."""
        try:
            step()
        except WireError as error:
            refusal = error
        except StoreError as error:
            refusal = not_stored(error)
        else:
            return
        is_frame = not isinstance(item.message, LabelMessage)
        self._refuse(item.origin, about(item.message, refusal), is_frame=is_frame)

    def _refuse(self, origin: Origin, error: WireError, *, is_frame: bool) -> None:
        self._instruments.refused(error.reason)
        if is_frame:
            self._instruments.frame(self._counted_as(error.camera), "rejected")
        self._receiver.reply(origin, wire.refused(error))
        now = self._monotonic()
        if now - self._logged_at.get(error.reason, -_LOG_EVERY) >= _LOG_EVERY:
            self._logged_at[error.reason] = now
            log.warning("refused reason=%s camera=%s error=%r", error.reason, error.camera, str(error))

    def _counted_as(self, camera: str) -> str:
        """The camera's name if it is known; strangers share the empty one, as each name is a time series."""
        return camera if camera in self._cameras else ""

    def _finish(self) -> None:
        """Use the last moment to decide what waits and to answer what was stored."""
        deadline = self._monotonic() + _FINISH_SECONDS
        self._advance()
        while (self._backlog or self._line or self._awaited) and (left := deadline - self._monotonic()) > 0:
            self._receiver.wait_for_wake(left)
            self._advance()
        refused = [work.item for work in self._line.clear() if not work.answered]
        while self._backlog:
            refused.append(self._backlog.pop())
        refusal = WireError("stopping", "the daemon is stopping; send the message again when it is back")
        for item in refused:
            is_frame = not isinstance(item.message, LabelMessage)
            self._refuse(item.origin, about(item.message, refusal), is_frame=is_frame)
        if self._awaited:
            log.warning("stopped before the store was done unanswered=%d", self._awaited)
