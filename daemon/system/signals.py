"""SIGTERM, Ctrl-C and SIGHUP, as a queue that the main thread waits on."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

STOP = (signal.SIGTERM, signal.SIGINT)
RELOAD = signal.SIGHUP


class StopWhileStarting(BaseException):
    """Raised when SIGTERM or Ctrl-C came before everything was started.

    It is not an Exception, so that no handler on the way treats it as a failure.
    """


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Make SIGTERM end a command as Ctrl-C does, so that it tidies up; for the main thread."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class Signals:
    """Receives the process's signals while it is entered; only the main thread may enter and wait."""

    def __init__(self) -> None:
        # SimpleQueue.put may interrupt any code, even itself, as a signal handler does. The lock of an Event
        # could be held by the interrupted code, and the daemon would hang.
        self._queue: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._starting = False
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> Signals:
        self._awake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._awake, select.POLLIN)
        self._previous = {number: signal.signal(number, self._take) for number in (*STOP, RELOAD)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self._awake)

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """In this context a request to stop raises ``StopWhileStarting``.

        A start may load a model or rebuild an index for minutes. It can be ended at any point, because what
        it writes survives even a kill.
        """
        self._starting = True
        try:
            yield
        finally:
            self._starting = False

    def next(self, timeout: float) -> int | None:
        """The next signal, or None when none came within ``timeout`` seconds."""
        # Not a wait of the queue's: before Python 3.11 that ends by the wall clock, which may be set back.
        if self._queue.empty() and self._poll.poll(timeout * 1000):
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._awake)
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return None

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self._queue.put(number)
        os.eventfd_write(self._awake, 1)
        if self._starting and number in STOP:
            self._starting = False
            raise StopWhileStarting
