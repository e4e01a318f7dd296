"""The bounded queue between the sockets and the workers, fair to each sender when it is full.

Messages leave in order of arrival. When there are too many, the sender with the most messages in the queue
loses its oldest one, so that a sender who floods the daemon loses its own frames and no others.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from dance_ondevice.daemon.wire.messages import Message
from dance_ondevice.daemon.wire.receiver import Origin


@dataclass(frozen=True, slots=True)
class Queued:
    """A message that waits in the queue.

    Attributes:
        size: Bytes of all parts.
        received: Monotonic seconds.
        arrived_at: Wall-clock seconds.
        share: Client or camera to whose share of the queue the message counts.
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
    """Messages in order of arrival, for use by one thread."""

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
        """Add a message; returns the messages that were removed for it, never the new one."""
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
        """The number of the oldest message of the largest share; the older one breaks ties.

        The newest message is exempt: a share that holds no other message does not count.
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
