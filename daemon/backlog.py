"""The short queue between the sockets and the work: bounded in messages and bytes, the oldest go first."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from dance_ondevice.daemon.receiver import Origin
from dance_ondevice.daemon.wire import Message


@dataclass(frozen=True, slots=True)
class Queued:
    """A message that waits for its turn.

    Attributes:
        size: bytes of all parts.
        received: monotonic seconds.
        arrived_at: wall-clock seconds.
    """

    origin: Origin
    message: Message
    size: int
    received: float
    arrived_at: float


class Backlog:
    """Messages in order of arrival; for one thread."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: deque[Queued] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._messages)

    def push(self, item: Queued) -> list[Queued]:
        """Add a message; returns those that had to go for it, never the new one."""
        self._messages.append(item)
        self._size += item.size
        gone: list[Queued] = []
        while len(self) > self._max_messages or (self._size > self._max_bytes and len(self) > 1):
            gone.append(self.pop())
        return gone

    def pop(self) -> Queued:
        """Take the oldest message."""
        item = self._messages.popleft()
        self._size -= item.size
        return item
