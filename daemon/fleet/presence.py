"""Which boards were heard of lately: no others are waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["Presence"]

#: A board that was not heard of for so long is not waited for.
_LATELY_S = 7 * 86400.0
#: How often boards are counted: every request asks how many there are.
_COUNT_EVERY_S = 10.0


class Presence:
    """When each board was heard of last; for one thread, but ``lately`` may be asked by any."""

    def __init__(self, known: Iterable[tuple[str, float]], now: Callable[[], float]) -> None:
        """``known`` are boards and the second of the wall clock ``now`` at which each was heard of."""
        self._now = now
        self.seen: dict[str, float] = dict(known)
        #: When boards were counted, how many were known then, and how many of them were heard of lately.
        self._counted = (0.0, -1, 0)

    def heard(self, board: str) -> None:
        """Take note that a board was heard of now."""
        now = self._now()
        if not 0 <= now - self.seen.get(board, 0.0) <= _LATELY_S:
            self._counted = (0.0, -1, 0)  # it counts again from now on
        self.seen[board] = now

    def lately(self) -> int:
        """Boards that were heard of within a week."""
        now, (counted_at, boards, count) = self._now(), self._counted
        if boards != len(self.seen) or not 0 <= now - counted_at < _COUNT_EVERY_S:
            count = sum(now - at <= _LATELY_S for at in list(self.seen.values()))
            self._counted = (now, len(self.seen), count)
        return count
