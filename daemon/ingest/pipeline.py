"""The pipeline of messages: workers decode and encode images in any order, the rest happens in order.

A message passes two stages. In the first it is checked and measured; then the ingest thread decides on it. In
the second it is encoded, if it is kept; then the ingest thread passes it on. The thread takes messages from
both stages in the order in which they came, so that policy, store and inference see the same sequence as
without workers.

Where many messages wait, a worker gets a few at a time: to hand over a result and to wake the thread for it
takes as long as a tenth of the work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, Generic, TypeVar

from dance_ondevice.daemon.ingest.backlog import Queued
from dance_ondevice.daemon.ingest.decision import DecidedFrame, Encoded, Measured
from dance_ondevice.daemon.ingest.pixels import CheckedLabel
from dance_ondevice.daemon.system.workers import Workers

T = TypeVar("T")

#: The most messages that a worker gets at a time, and the most pixels of them together.
_AT_A_TIME = 4
_PIXELS_AT_A_TIME = 1 << 21


class Result(Generic[T]):
    """What one step will return or raise. One thread sets it, and the owner of the pipeline reads it."""

    __slots__ = ("_error", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._value: T | None = None
        self._error: BaseException | None = None

    def set_from(self, step: Callable[[], T]) -> None:
        """Do the step."""
        try:
            self._value = step()
        except BaseException as error:  # whoever asks for the result gets it
            self._error = error
        self.done = True  # last: from here on the other thread reads

    def get(self) -> T:
        """Return what the step returned.

        Raises:
            BaseException: What the step raised.
        """
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # it is done, so it was set


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
    measured: Result[Measured | CheckedLabel]
    label: CheckedLabel | None = None
    decided: DecidedFrame | None = None
    sample: Result[Encoded] | None = None

    @property
    def answered(self) -> bool:
        """Whether the sender has its answer: the frame is not kept, and only waits for its turn."""
        return self.decided is not None and self.sample is None


@dataclass(frozen=True, slots=True)
class _Step:
    """What a worker is to do for a message."""

    result: Result[Any]
    run: Callable[[], Any]
    pixels: int


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
        self._waiting: list[_Step] = []
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
        """Put a message into the first stage; ``hand_out`` gives it to a worker."""
        work = InWork(item=item, started=started, pixels=pixels, measured=Result())
        self._waiting.append(_Step(work.measured, measure, pixels))
        self._enter(self._first, work)

    def proceed(self, work: InWork, encode: Callable[[], Encoded] | None, *, at_once: bool = False) -> None:
        """Put a message into the second stage, even if it only waits there for its turn.

        Args:
            work: The message.
            encode: What the stage does, on a worker after ``hand_out``; None if there is nothing to store.
            at_once: Whether that is so little that the caller does it here, which spares two hand-overs.
        """
        if encode is not None:
            work.sample = Result()
            if at_once:
                work.sample.set_from(encode)
            else:
                self._waiting.append(_Step(work.sample, encode, work.pixels))
        self._enter(self._second, work)

    def hand_out(self) -> None:
        """Give the workers what was put into the stages since the last call, in its order."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        # Every worker has something to do before one gets several.
        most = min(_AT_A_TIME, ceil(len(self) / self._workers.count))
        steps: list[_Step] = []
        pixels = 0
        for step in waiting:
            if steps and (len(steps) >= most or pixels + step.pixels > _PIXELS_AT_A_TIME):
                self._workers.submit(partial(self._work, steps))
                steps, pixels = [], 0
            steps.append(step)
            pixels += step.pixels
        self._workers.submit(partial(self._work, steps))

    def measured(self) -> Iterator[InWork]:
        """Take finished messages out of the first stage, up to the first one that is not finished."""
        while self._first and self._first[0].measured.done:
            yield self._leave(self._first)

    def encoded(self) -> Iterator[InWork]:
        """Take finished messages out of the second stage, up to the first one that is not finished."""
        while self._second and _may_leave(self._second[0]):
            yield self._leave(self._second)

    def clear(self) -> list[InWork]:
        """Take all messages, finished or not, in order."""
        left = [*self._second, *self._first]
        self._first.clear()
        self._second.clear()
        self._waiting.clear()
        self._pixels = self.size = 0
        return left

    def _enter(self, stage: deque[InWork], work: InWork) -> None:
        stage.append(work)
        self._pixels += work.pixels
        self.size += work.item.size

    def _leave(self, stage: deque[InWork]) -> InWork:
        work = stage.popleft()
        self._pixels -= work.pixels
        self.size -= work.item.size
        return work

    def _work(self, steps: Sequence[_Step]) -> None:
        """Do some steps on a worker's thread, and tell the caller if a message can leave its stage by it.

        Those behind one that is not done wait for that one, whose worker then finds them done.
        """
        for step in steps:
            step.result.set_from(step.run)
        if self._some_may_leave():
            self._done()

    def _some_may_leave(self) -> bool:
        try:
            if self._first and self._first[0].measured.done:
                return True
            return bool(self._second) and _may_leave(self._second[0])
        except IndexError:  # it was taken meanwhile
            return True


def _may_leave(work: InWork) -> bool:
    return work.sample is None or work.sample.done
