"""Worker threads to which a service gives work that uses none of the service's own resources."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple[Future[Any], Callable[[], Any]]


class Workers:
    """Worker threads of one owner, which alone submits jobs and closes them.

    The threads start with the first job, so that a service that needs none has none. Jobs start in the order
    in which they were submitted. The queue is unbounded: the caller must limit the number of jobs.
    """

    def __init__(self, name: str, count: int, first: Callable[[], None] | None = None) -> None:
        """Create the workers; no thread is started yet.

        Args:
            name: Name of the threads; a number is added to each.
            count: Number of threads, at least 1.
            first: Called once by the thread that submits the first job, before any worker starts.
        """
        self.name = name
        self.count = count
        self._first = first
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def threads(self) -> Iterator[tuple[str, Callable[[], int | None]]]:
        """Each thread's name, and a function for its kernel id (None before it runs), for CPU accounting."""
        for number in range(self.count):
            yield f"{self.name}-{number}", partial(self._native_id, number)

    def submit(self, run: Callable[[], T]) -> Future[T]:
        """Run a function on one of the threads; returns its future.

        The future's callbacks run on that thread and must be quick.

        Raises:
            RuntimeError: ``close`` was called.
        """
        if self._closed:
            raise RuntimeError(f"the workers of {self.name} are closed")
        if not self._threads:
            self._start()
        future: Future[T] = Future()
        self._jobs.put((future, run))
        return future

    def close(self, timeout: float = 2.0) -> bool:
        """Cancel the jobs that have not begun, and end all threads.

        Args:
            timeout: Seconds to wait; a thread that hangs does not keep the process from ending.

        Returns:
            Whether all threads have ended.
        """
        self._closed = True
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                job[0].cancel()
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _native_id(self, number: int) -> int | None:
        return self._threads[number].native_id if self._threads else None

    def _start(self) -> None:
        if self._first is not None:
            self._first()
        self._threads = [
            threading.Thread(target=self._work, name=f"{self.name}-{number}", daemon=True)
            for number in range(self.count)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, run = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                value = run()
            except BaseException as error:  # any exception goes to the caller through the future
                future.set_exception(error)
            else:
                future.set_result(value)
            del job, future, run  # the last frame must not stay in memory until the next one comes
