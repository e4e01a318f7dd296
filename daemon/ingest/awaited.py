"""Answers to messages that the store is not done with yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from dance_ondevice.daemon.ingest.backlog import Queued

__all__ = ["Answer", "AwaitedAnswers"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to send when the store is done with a message, and the bytes that it holds until then."""

    item: Queued
    send: Callable[[], None]
    size: int


class AwaitedAnswers:
    """Collects answers until their futures are done; all but the callbacks of futures is one thread's."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """Begin without answers.

        Args:
            wake: Called, on any thread, when a refusal can be sent. Of answers the store itself tells, once a
                group: woken for each, the caller would take turns with the store's thread.
        """
        self._wake = wake
        self._done: SimpleQueue[Answer] = SimpleQueue()
        self._count = 0
        #: Bytes of all messages that are awaited.
        self.size = 0

    def __len__(self) -> int:
        return self._count

    def add(self, future: Future[Any], answer: Answer) -> None:
        """Hold an answer until the future is done."""
        self._count += 1
        self.size += answer.size

        def done(resolved: Future[Any]) -> None:
            self._done.put(answer)
            if resolved.exception() is not None:
                self._wake()

        future.add_done_callback(done)

    def ready(self) -> Iterator[Answer]:
        """Yield the answers that can be sent now, each once."""
        while True:
            try:
                answer = self._done.get_nowait()
            except Empty:
                return
            self._count -= 1
            self.size -= answer.size
            yield answer
