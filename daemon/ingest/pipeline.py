"""The pipeline of messages: workers decode and encode images in any order, the rest happens in order.

A message passes two stages. In the first it is checked and measured; then the ingest thread decides on it. In
the second it is encoded, if it is kept; then the ingest thread passes it on. The thread takes messages from
both stages in the order in which they came, so that policy, store and inference see the same sequence as
without workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from dance_ondevice.daemon.ingest.backlog import Queued
from dance_ondevice.daemon.ingest.decision import DecidedFrame, Encoded, Measured
from dance_ondevice.daemon.ingest.pixels import CheckedLabel
from dance_ondevice.daemon.system.workers import Workers

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class InWork:
    """A message in one of the stages.

    Attributes:
        started: Monotonic seconds.
        pixels: Number of pixels of its image, by the header.
        measured: Result of the first stage.
        label: The checked label of a message that is only a label.
        decided: The frame and the decision on it, once there is one.
        sample: Result of the second stage for a frame that is kept; None for other messages.
    """

    item: Queued
    started: float
    pixels: int
    measured: Future[Measured | CheckedLabel]
    label: CheckedLabel | None = None
    decided: DecidedFrame | None = None
    sample: Future[Encoded] | None = None

    @property
    def answered(self) -> bool:
        """Whether the sender has its answer: the frame is not kept, and only waits for its turn."""
        return self.decided is not None and self.sample is None


class Pipeline:
    """The messages in both stages, for use by one thread; bounded in messages and in pixels."""

    def __init__(
        self, workers: Workers, *, max_messages: int, max_pixels: int, done: Callable[[], None]
    ) -> None:
        """Start empty.

        Args:
            workers: Threads that run the stages; the caller closes them.
            max_messages: The most messages in both stages.
            max_pixels: No message is started while the messages in work have this many pixels together.
            done: Called on a worker's thread when a result may have become ready.
        """
        self._workers = workers
        self._max_messages = max_messages
        self._max_pixels = max_pixels
        self._done = done
        self._first: deque[InWork] = deque()
        self._second: deque[InWork] = deque()
        self._pixels = 0
        self.size = 0

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    @property
    def has_capacity(self) -> bool:
        """Whether another message may be started."""
        return len(self) < self._max_messages and self._pixels < self._max_pixels

    def begin(
        self, item: Queued, started: float, pixels: int, measure: Callable[[], Measured | CheckedLabel]
    ) -> None:
        """Put a message into the first stage."""
        future = self._workers.submit(measure)
        work = InWork(item=item, started=started, pixels=pixels, measured=future)
        self._first.append(work)
        self._tell_of(future, work, self._first)
        self._pixels += pixels
        self.size += item.size

    def proceed(self, work: InWork, encode: Callable[[], Encoded] | None, *, at_once: bool = False) -> None:
        """Put a message into the second stage, even if it only waits there for its turn.

        Args:
            work: The message.
            encode: What the stage does; None if there is nothing to store.
            at_once: Whether that is so little that the caller does it here, which spares two hand-overs.
        """
        future = None
        if encode is not None:
            work.sample = future = _done(encode) if at_once else self._workers.submit(encode)
        self._second.append(work)
        if future is not None and not at_once:
            self._tell_of(future, work, self._second)
        self._pixels += work.pixels
        self.size += work.item.size

    def measured(self) -> Iterator[InWork]:
        """Take finished messages out of the first stage, up to the first one that is not finished."""
        while self._first and self._first[0].measured.done():
            yield self._leave(self._first)

    def encoded(self) -> Iterator[InWork]:
        """Take finished messages out of the second stage, up to the first one that is not finished."""
        while self._second and ((sample := self._second[0].sample) is None or sample.done()):
            yield self._leave(self._second)

    def clear(self) -> list[InWork]:
        """Take all messages, finished or not, in order."""
        left = [*self._second, *self._first]
        self._first.clear()
        self._second.clear()
        self._pixels = self.size = 0
        return left

    def _leave(self, stage: deque[InWork]) -> InWork:
        work = stage.popleft()
        self._pixels -= work.pixels
        self.size -= work.item.size
        return work

    def _tell_of(self, future: Future[Any], work: InWork, stage: deque[InWork]) -> None:
        """Tell the caller of a result once it is that of the first in its stage: others wait for that one."""

        def finished(_: Future[Any]) -> None:
            # The future is done before it calls this, so whoever takes the one before it now finds it done.
            try:
                first = stage[0] is work
            except IndexError:  # it was taken meanwhile
                return
            if first:
                self._done()

        future.add_done_callback(finished)


def _done(run: Callable[[], T]) -> Future[T]:
    """Do it now; the future has its result or its error."""
    future: Future[T] = Future()
    try:
        future.set_result(run())
    except Exception as error:  # whoever asks for the result gets it, as from a worker
        future.set_exception(error)
    return future
