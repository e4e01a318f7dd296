"""Messages in work: pixels are decoded and encoded by workers, in any order; all else happens in order.

A message passes two stations. At the first it is checked and measured; then the ingest thread decides on it.
At the second it is encoded, if it is kept; then the ingest thread hands it on. The thread takes messages from
both stations in the order in which they came, so that policy, store and inference see what they would see
without workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from dance_ondevice.daemon.ingest.backlog import Queued
from dance_ondevice.daemon.ingest.decision import Judged, Measured
from dance_ondevice.daemon.ingest.pixels import CheckedLabel
from dance_ondevice.daemon.store.samples import NewSample
from dance_ondevice.daemon.system.workers import Workers

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class InWork:
    """A message in work.

    Attributes:
        started: monotonic seconds.
        pixels: what its image has, by its header.
        measured: what the first station makes of it.
        label: of a message that is a label alone, once checked.
        judged: of a frame, once decided.
        sample: what the second station makes of a frame that is kept; None for what is not.
    """

    item: Queued
    started: float
    pixels: int
    measured: Future[Measured | CheckedLabel]
    label: CheckedLabel | None = None
    judged: Judged | None = None
    sample: Future[NewSample] | None = None

    @property
    def answered(self) -> bool:
        """Whether the sender has been told: a frame that is not kept, and only waits for its turn."""
        return self.judged is not None and self.sample is None


class Line:
    """The messages at both stations, for one thread; bounded in messages and in pixels."""

    def __init__(
        self, workers: Workers, *, max_messages: int, max_pixels: int, done: Callable[[], None]
    ) -> None:
        """Begin empty.

        Args:
            workers: do the work; the caller closes them.
            max_messages: most messages at both stations.
            max_pixels: no message is begun while those in work have as many together.
            done: called on a worker's thread when something may have become ready.
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
    def has_room(self) -> bool:
        """Whether a message may be begun."""
        return len(self) < self._max_messages and self._pixels < self._max_pixels

    def begin(
        self, item: Queued, started: float, pixels: int, measure: Callable[[], Measured | CheckedLabel]
    ) -> None:
        """Send a message to the first station."""
        future = self._submit(measure)
        self._first.append(InWork(item=item, started=started, pixels=pixels, measured=future))
        self._pixels += pixels
        self.size += item.size

    def proceed(self, work: InWork, encode: Callable[[], NewSample] | None) -> None:
        """Send a message on to the second station, if only to wait there for its turn."""
        if encode is not None:
            work.sample = self._submit(encode)
        self._second.append(work)
        self._pixels += work.pixels
        self.size += work.item.size

    def measured(self) -> Iterator[InWork]:
        """Take the messages that the first station is done with, as far as all before them are."""
        while self._first and self._first[0].measured.done():
            yield self._leave(self._first)

    def encoded(self) -> Iterator[InWork]:
        """Take the messages that the second station is done with, as far as all before them are."""
        while self._second and ((sample := self._second[0].sample) is None or sample.done()):
            yield self._leave(self._second)

    def clear(self) -> list[InWork]:
        """Take all messages, whatever has become of them, in order."""
        left = [*self._second, *self._first]
        self._first.clear()
        self._second.clear()
        self._pixels = self.size = 0
        return left

    def _leave(self, station: deque[InWork]) -> InWork:
        work = station.popleft()
        self._pixels -= work.pixels
        self.size -= work.item.size
        return work

    def _submit(self, run: Callable[[], T]) -> Future[T]:
        future = self._workers.submit(run)
        future.add_done_callback(lambda _: self._done())
        return future
