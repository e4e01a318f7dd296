"""The short queue between the sockets and the work: bounded in messages and bytes, and fair when it is full.

Messages leave in order of arrival. When there are too many, the oldest one of whoever has most of them in the
queue gives way, so that a sender who floods the daemon loses his own frames and nobody else's.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from dance_ondevice.daemon.wire.messages import Message
from dance_ondevice.daemon.wire.receiver import Origin


@dataclass(frozen=True, slots=True)
class Queued:
    """A message that waits for its turn.

    Attributes:
        size: bytes of all parts.
        received: monotonic seconds.
        arrived_at: wall-clock seconds.
        share: whose part of the queue it takes: a client or a camera.
    """

    origin: Origin
    message: Message
    size: int
    received: float
    arrived_at: float
    share: str = ""


@dataclass(slots=True)
class _Share:
    """The messages of one sender: their numbers in the queue, oldest first, and their bytes together."""

    numbers: OrderedDict[int, None] = field(default_factory=OrderedDict)
    size: int = 0


class Backlog:
    """Messages in order of arrival; for one thread."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: OrderedDict[int, Queued] = OrderedDict()
        self._shares: dict[str, _Share] = {}
        self._size = 0
        self._next = 0

    def __len__(self) -> int:
        return len(self._messages)

    def push(self, item: Queued) -> list[Queued]:
        """Add a message; returns those that had to go for it, never the new one."""
        self._messages[self._next] = item
        share = self._shares.setdefault(item.share, _Share())
        share.numbers[self._next] = None
        share.size += item.size
        self._size += item.size
        self._next += 1
        gone: list[Queued] = []
        while len(self) > self._max_messages:
            gone.append(self._take(self._oldest_of_most(by_size=False)))
        while self._size > self._max_bytes and len(self) > 1:
            gone.append(self._take(self._oldest_of_most(by_size=True)))
        return gone

    def pop(self) -> Queued:
        """Take the oldest message."""
        return self._take(next(iter(self._messages)))

    def _oldest_of_most(self, *, by_size: bool) -> int:
        """The number of the oldest message of the largest share; of equal ones, that with the oldest message.

        The newest message is passed over: a share that holds nothing else does not count.
        """
        newest = self._next - 1
        heads = (
            (share.size if by_size else len(share.numbers), -head)
            for share in self._shares.values()
            if (head := next(iter(share.numbers))) != newest
        )
        return -max(heads)[1]

    def _take(self, number: int) -> Queued:
        item = self._messages.pop(number)
        share = self._shares[item.share]
        del share.numbers[number]
        share.size -= item.size
        self._size -= item.size
        if not share.numbers:
            del self._shares[item.share]
        return item
