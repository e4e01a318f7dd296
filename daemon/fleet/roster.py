"""What the server counts, and what it tells of its boards: for metrics and for people."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dance_ondevice.daemon.fleet.facts import BoardFacts
from dance_ondevice.daemon.fleet.shelf import Shelf
from dance_ondevice.daemon.wire import fleet_messages as messages
from dance_ondevice.policies.fleet.rules import miou_of

__all__ = ["Tallies", "roster"]

#: Boards that are named at most, those heard of last: so many fit into one message.
_NAMED = 500


class Tallies:
    """Counts since the start, for metrics."""

    def __init__(self) -> None:
        self.offers: dict[str, int] = {"admitted": 0, "refused": 0}
        self.versions: dict[str, int] = {"published": 0, "declined": 0}
        self.bytes: dict[str, int] = {"in": 0, "out": 0}
        self.refused: dict[str, int] = {"request": 0, "rate": 0, "disk": 0, "double": 0, "key": 0}
        self._by_board: dict[tuple[str, str], int] = {}

    def exchanged(self, board: str, direction: str, count: int) -> None:
        """Count bytes of files of a board."""
        self.bytes[direction] += count
        key = (board, direction)
        self._by_board[key] = self._by_board.get(key, 0) + count

    def unknown_key(self) -> None:
        """Count a connection whose key is not known."""
        self.refused["key"] += 1

    def of_board(self, board: str, direction: str) -> int:
        """Bytes of files of a board."""
        return self._by_board.get((board, direction), 0)


def roster(
    shelf: Shelf,
    seen: Mapping[str, float],
    waiting: Collection[str],
    tallies: Tallies,
    *,
    number: int,
    now: float,
) -> messages.Boards:
    """Who is in the fleet, on which version, what each gained, and bytes.

    Args:
        shelf: The server's files.
        seen: When each board was heard of, s since the epoch.
        waiting: The boards whose offer waits for a version.
        tallies: Counts since the start.
        number: Of the request.
        now: Wall clock, s.
    """
    gains = _gains(shelf)
    latest = sorted(seen, key=lambda name: -seen[name])[:_NAMED]
    boards = []
    for name in sorted(latest):
        facts = shelf.boards.get(name, BoardFacts())
        boards.append(
            messages.BoardNews(
                name=name,
                heard_s=max(0.0, now - seen[name]),
                version=shelf.number_of(facts.has) or 0,
                refused=shelf.number_of(facts.refuses) if facts.refuses else None,
                gain=gains.get(name),
                waiting=name in waiting,
                sent=tallies.of_board(name, "in"),
                received=tallies.of_board(name, "out"),
            )
        )
    return messages.Boards(id=number, count=len(seen), boards=tuple(boards))


def _gains(shelf: Shelf) -> dict[str, float]:
    """What the newest version that each board scored gains on its frames."""
    found = {}
    for version in sorted(shelf.versions.values(), key=lambda v: v.number):
        for board, vote in version.votes.items():
            found[board] = miou_of([vote.candidate]) - miou_of([vote.published])
    return found
