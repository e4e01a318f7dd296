"""The ingest thread: receives frames and labels over ZMQ, decides in order, and answers when they are safe.

The loop takes received messages into a short queue, gives a few to workers, decides on what they have
measured, gives the store what they have encoded, and sends the answers for samples that are durable. Workers
and the store finish on their own threads; since sockets and decisions belong to this one, they queue a result
and wake it.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, TypeVar

import zmq

from dance_ondevice.complexity import Indicator
from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.ingest.admission import Admission, addressed
from dance_ondevice.daemon.ingest.awaited import Answer, AwaitedAnswers
from dance_ondevice.daemon.ingest.backlog import Backlog, Queued
from dance_ondevice.daemon.ingest.cameras import Cameras
from dance_ondevice.daemon.ingest.decision import (
    DecidedFrame,
    FrameDecider,
    Measured,
    judged,
    new_sample,
    pending_frame,
)
from dance_ondevice.daemon.ingest.last_seen import LastSeen
from dance_ondevice.daemon.ingest.mailbox import LatestFrames
from dance_ondevice.daemon.ingest.pipeline import InWork, Pipeline
from dance_ondevice.daemon.ingest.pixels import (
    CheckedLabel,
    check_label_png,
    one_thread_an_image,
    read_header,
    stored_as_it_came,
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

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Seconds that a stop may spend on received messages: those in the queue and answers from the store.
_FINISH_SECONDS = 1.5
#: Seconds between two log lines about refusals for the same reason; the counter has all of them.
_LOG_EVERY = 10.0
#: Messages in work for each worker: enough that no worker waits while this thread decides, few enough that
#: the others wait in the queue, where a newer message may replace them.
_IN_WORK = 8
#: Steps of which one is timed: asking for a thread's CPU time twice a step costs a tenth of a frame. It is no
#: multiple of the three steps that a frame takes.
_TIMED_EVERY = 16


class Ingest(Service):
    """The thread that owns the sockets of frames and labels; others may set the rules of its ``decider``.

    Every frame that arrives ends in exactly one of kept, dropped, rejected and overflow. Labels for earlier
    samples are not frames: they count only when they are refused.
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
        seen: LastSeen | None = None,
        cameras: Iterable[tuple[str, int]] = (),
        workers: int = 2,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the thread; nothing is opened before ``start``.

        Args:
            settings: The section ``[ingest]`` of the configuration: addresses and limits.
            context: Makes the sockets.
            indicator: Scores frames.
            rules: Rules that decide from a frame's score.
            n_classes: Number of classes that labels may use.
            store: Store for frames that are kept.
            mailbox: Receives every valid frame for inference; None while inference is off.
            instruments: Counters and histograms.
            condition_of: Returns the condition that a camera is in; "" where it is unknown.
            admission: Decides who may send; None accepts anyone who can connect.
            curve: Encrypts the sockets and admits only known clients; None for plain sockets.
            publishers: With CURVE, the names of the clients behind ``subscribe``, in its order.
            cameras: Cameras with stored samples, and their number of samples; see ``stored_cameras``.
            watch: Limits the connections of senders; None for no limit.
            seen: Holds the last frames for people who watch.
            workers: Number of threads that decode and encode.
            clock: Wall clock, in seconds.
            monotonic: Clock of durations, in seconds.
        """
        super().__init__("ingest")
        self._settings = settings
        self._publishers = publishers
        self._watch = watch
        #: The most bytes that wait in the queue; as many again may wait for the store.
        self._queue_bytes = 2 * settings.max_message_bytes
        self._cameras = Cameras(settings.max_cameras, instruments, monotonic=monotonic)
        self._cameras.remember(cameras)
        self.decider = FrameDecider(
            indicator=indicator,
            rules=rules,
            n_classes=n_classes,
            max_pixels=settings.max_pixels,
            cameras=self._cameras,
            condition_of=condition_of,
            served_share=mailbox.taken_share if mailbox is not None else lambda: 0.0,
        )
        self._context = context
        self._n_classes = n_classes
        self._store = store
        self._mailbox = mailbox
        self._seen = seen
        self._instruments = instruments
        self._admission = admission or Admission()
        self._curve = curve
        self._clock = clock
        self._monotonic = monotonic
        self._opened: Receiver | None = None
        self._backlog = Backlog(settings.queue_frames, self._queue_bytes)
        self._awaited = AwaitedAnswers(self.wake)
        store.after_groups(self.wake)
        self.workers = (Workers("ingest-work", workers, one_thread_an_image),)
        self._pipeline = Pipeline(
            self.workers[0],
            max_messages=_IN_WORK * workers,
            max_pixels=settings.max_pixels,
            done=self.wake,
        )
        self._steps = itertools.count()
        self._logged_at: dict[str, float] = {}

    def forget_camera(self, name: str) -> None:
        """Free a camera's name and drop its series; callable from any thread."""
        self._cameras.forget(name)
        if self._seen is not None:
            self._seen.forget(name)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The endpoints that senders connect to, with real ports for wildcards; empty before ``start``."""
        return self._opened.endpoints if self._opened else ()

    @property
    def visited_endpoints(self) -> tuple[str, ...]:
        """The endpoints for PUB senders, with real ports for wildcards; empty before ``start``."""
        return self._opened.visited_endpoints if self._opened else ()

    def setup(self) -> None:
        """Open the sockets.

        Raises:
            AddressInUse: Another program listens on an address of the configuration.
            ListenError: An endpoint cannot be used.
        """
        self._opened = Receiver(
            self._context,
            bind=self._settings.bind,
            subscribe=self._settings.subscribe,
            subscribe_bind=self._settings.subscribe_bind,
            # A message that is a little too large gets an answer; ZMQ cuts off those that would fill the
            # memory.
            max_part_bytes=2 * self._settings.max_message_bytes,
            curve=self._curve,
            publishers=self._publishers,
            watch=self._watch,
        )
        bound = (self.endpoints, self._settings.subscribe, self.visited_endpoints)
        log.info("ingest ready bind=%s subscribe=%s subscribe_bind=%s", *(",".join(each) for each in bound))

    def run(self) -> None:
        """Receive, decide, answer, until stopped; then finish what was received."""
        receiver = self._receiver
        while not self.stopping.is_set():
            self.beat()
            receiver.wait(0.0 if self._can_work() else 1.0)
            if self._admission.rescan_keys():
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
        """Whether a message waits, and workers and store keep up with it."""
        return (
            bool(self._backlog)
            and self._pipeline.has_capacity
            and len(self._awaited) + len(self._pipeline) < self._settings.queue_frames
            and self._awaited.size + self._pipeline.size < self._queue_bytes
        )

    def _advance(self) -> None:
        """Move every message forward as far as it can go now."""
        for answer in self._awaited.ready():
            self._attempt(answer.item, answer.send)
        for work in self._pipeline.measured():
            self._attempt(work.item, partial(self._timed, "decide", partial(self._decide, work)))
            if not isinstance(work.item.message, LabelMessage):
                self._instruments.ingest_seconds(self._monotonic() - work.started)
        self._hand_over()
        while self._can_work():
            self._begin(self._backlog.pop())
        self._pipeline.hand_out()

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
        self._receiver.reply(item.origin, wire.refused(addressed(item.message, error)))

    def _begin(self, item: Queued) -> None:
        """Have the workers check and measure a message."""
        message = item.message
        shape: tuple[int, ...] = (0, 0)
        if isinstance(message, LabelMessage):
            info = read_header(message.label)
            measure: Callable[[], Measured | CheckedLabel] = partial(
                check_label_png,
                message.label,
                size=None,
                max_pixels=self._settings.max_pixels,
                n_classes=self._n_classes,
            )
        else:
            info = read_header(message.image) if message.shape is None else None
            measure = partial(self._timed, "measure", partial(self.decider.measure, message, info))
            shape = message.shape or shape
        pixels = info.width * info.height if info else shape[0] * shape[1]
        self._pipeline.begin(item, self._monotonic(), pixels, measure)

    def _decide(self, work: InWork) -> None:
        """Decide on a message that was measured."""
        found, message = work.measured.get(), work.item.message
        if isinstance(found, CheckedLabel):
            work.label = found
            self._pipeline.proceed(work, None)
            return
        assert not isinstance(message, LabelMessage)
        decided = work.decided = self.decider.decide(
            message, found, work.item.arrived_at, work.item.origin.source
        )
        self._instruments.dated(decided.camera, decided.captured_at - decided.arrived_at)
        if not decided.resent and not decided.sign_of_life:
            self._instruments.score(decided.camera, decided.score)
            self._instruments.scale(decided.camera, decided.decision.scale)
            self._instruments.standing(decided.camera, decided.standing)
        if decided.decision.keep:
            encode = partial(self._timed, "encode", partial(new_sample, decided))
            as_it_came = stored_as_it_came(decided.frame, decided.decision.scale)
            self._pipeline.proceed(work, encode, at_once=as_it_came)
            return
        self._pipeline.proceed(work, None)
        self._hand_over()
        self._count(decided, "dropped")
        self._acknowledge(work.item, decided, None)

    def _count(self, decided: DecidedFrame, outcome: Literal["kept", "dropped"]) -> None:
        """Count a frame that was stored or left out; a refused one belongs to no condition."""
        if not decided.resent and not decided.sign_of_life:
            self._instruments.decided(decided.camera, decided.decision)
        self._instruments.frame(decided.camera, outcome)

    def _timed(self, stage: str, step: Callable[[], T]) -> T:
        """Do something for a frame, on any thread, and record that thread's CPU time for it now and then."""
        if next(self._steps) % _TIMED_EVERY:
            return step()
        started = time.thread_time()
        try:
            return step()
        finally:
            self._instruments.frame_cpu(stage, time.thread_time() - started)

    def _hand_over(self) -> None:
        """Pass finished messages to inference and the store, in the order of arrival."""
        for work in self._pipeline.encoded():
            give = self._give_frame if work.label is None else self._give_label
            self._attempt(work.item, partial(give, work))

    def _give_frame(self, work: InWork) -> None:
        assert work.decided is not None
        item, decided = work.item, work.decided
        # Only encoding shows whether the colours can be decoded, so inference gets the frame after it.
        encoded = work.sample.get() if work.sample is not None else None
        if self._mailbox is not None and not decided.sign_of_life:
            pixels = encoded.pixels if encoded is not None else None
            self._mailbox.offer(pending_frame(decided, item.received, pixels))
        if self._seen is not None:
            frame = None
            if self._seen.watched and not decided.sign_of_life:
                # Without its pixels: what people watch is decoded when they look.
                frame = pending_frame(decided.without_pixels(), item.received)
            self._seen.judged(decided.camera, judged(decided), frame, segments=self._mailbox is not None)
        if encoded is None:
            return
        sample, decided = encoded.sample, decided.without_pixels()
        stored = self._store.add_sample(sample)

        def answer() -> None:
            promise = stored.result()
            self._count(decided, "kept")
            self._acknowledge(item, decided, promise)

        self._awaited.add(stored, Answer(item, answer, item.size + sample.size))

    def _give_label(self, work: InWork) -> None:
        item, label, message = work.item, work.label, work.item.message
        assert isinstance(message, LabelMessage)
        assert label is not None
        done = self._store.add_label(message.sample_id, label.png, label.classes, "wire")

        def answer() -> None:
            done.result()
            self._receiver.reply(item.origin, wire.labelled(message.sample_id))

        self._awaited.add(done, Answer(item, answer, item.size))

    def _acknowledge(self, item: Queued, decided: DecidedFrame, stored: Stored | None) -> None:
        protocol = item.message.protocol if isinstance(item.message, ForeignFrame) else "v1"
        resent = stored is not None and stored.duplicate
        self._receiver.reply(
            item.origin,
            wire.accepted(
                sample_id=stored.id if stored else decided.id,
                camera=decided.camera,
                seq=decided.seq,
                kept=stored is not None,
                score=stored.score if stored and resent else decided.score,
                scale=stored.scale if stored and resent else decided.decision.scale,
                reason="already stored" if resent else decided.reason,
                protocol=protocol,
            ),
        )

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
        self._refuse(item.origin, addressed(item.message, refusal), is_frame=is_frame)

    def _refuse(self, origin: Origin, error: WireError, *, is_frame: bool) -> None:
        self._instruments.refused(error.reason)
        if is_frame:
            self._instruments.frame(self._counted_as(error.camera), "rejected")
            self._instruments.refused_frame(error.camera, str(error))
        self._receiver.reply(origin, wire.refused(error))
        now = self._monotonic()
        if now - self._logged_at.get(error.reason, -_LOG_EVERY) >= _LOG_EVERY:
            self._logged_at[error.reason] = now
            log.warning("refused reason=%s camera=%s error=%r", error.reason, error.camera, str(error))

    def _counted_as(self, camera: str) -> str:
        """The camera's name if it is known, else "": unknown cameras share one time series."""
        return camera if camera in self._cameras else ""

    def _finish(self) -> None:
        """Decide on waiting messages and answer stored ones, as far as the time before the stop allows."""
        deadline = self._monotonic() + _FINISH_SECONDS
        self._advance()
        while self._backlog or self._pipeline or self._awaited:
            left = deadline - self._monotonic()
            if left <= 0:
                break
            self._receiver.wait_for_wake(left)
            self._advance()
        refused = [work.item for work in self._pipeline.clear() if not work.answered]
        while self._backlog:
            refused.append(self._backlog.pop())
        refusal = WireError("stopping", "the daemon is stopping; send the message again when it is back")
        for item in refused:
            is_frame = not isinstance(item.message, LabelMessage)
            self._refuse(item.origin, addressed(item.message, refusal), is_frame=is_frame)
        if self._awaited:
            log.warning("stopped before the store was done unanswered=%d", len(self._awaited))
