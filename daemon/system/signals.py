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
    """SIGTERM or Ctrl-C came before everything ran.

    Not an Exception, so that nothing on the way takes it for a failure.
    """


class Signals:
    """Takes the process's signals while it is entered; the main thread alone enters and waits."""

    def __init__(self) -> None:
        # Its put may interrupt anything, itself included, which is what a handler does; the lock inside an
        # Event could be held by the very code that was interrupted, and the daemon would hang, not stop.
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
        """While this is open, a request to stop ends the work with ``StopWhileStarting``.

        A start may load a model or rebuild an index for minutes. Ending it anywhere is safe, since what it
        writes survives even a kill.
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
