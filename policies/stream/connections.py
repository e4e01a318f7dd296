"""Which connections give way when there are more than the daemon has descriptors for.

The address with the most connections loses first, so that a program which leaks sockets loses its own. Among
those of one address, one that was used again counts for more than one left after a single message, and what
was silent longest goes first. A connection whose answer is outstanding goes last of all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Connection", "surplus"]


@dataclass(frozen=True, slots=True)
class Connection:
    """An open connection.

    Attributes:
        number: its descriptor.
        address: of the peer's machine; "" for a Unix socket.
        messages: how many have come over it.
        waiting: messages that are not answered yet.
        last: monotonic seconds of its last message, or of its beginning.
    """

    number: int
    address: str
    messages: int
    waiting: int
    last: float


def surplus(connections: Sequence[Connection], limit: int, *, newest_first: bool = False) -> list[int]:
    """The descriptors of the connections to close so that ``limit`` are left.

    Args:
        connections: all that are open.
        limit: how many may stay.
        newest_first: the latest to come goes first; for readers, who say nothing by which a good one could be
            told from one that was left.
    """
    excess = len(connections) - limit
    if excess <= 0:
        return []
    by_address: dict[str, list[Connection]] = defaultdict(list)
    for connection in connections:
        by_address[connection.address].append(connection)
    share = _largest_share([len(group) for group in by_address.values()], limit)
    order = _by_age if newest_first else _by_use
    surely: list[Connection] = []
    perhaps: list[Connection] = []
    for group in by_address.values():
        group.sort(key=order)
        # Each address keeps its share; which of them keep one more is decided among those connections.
        over = len(group) - share
        surely += group[: max(0, over - 1)]
        perhaps += group[over - 1 : over] if over > 0 else []
    perhaps.sort(key=order)
    going = sorted(surely + perhaps[: excess - len(surely)], key=order)
    return [connection.number for connection in going]


def _by_use(connection: Connection) -> tuple[bool, bool, float]:
    return connection.waiting > 0, connection.messages > 1, connection.last


def _by_age(connection: Connection) -> float:
    return -connection.last


def _largest_share(sizes: list[int], limit: int) -> int:
    """The most that each address may keep so that all of them keep at most ``limit`` together."""
    share, left = 0, limit
    for index, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - index)
        if size > share:
            return share
        left -= size
    return share
