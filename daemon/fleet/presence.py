"""Which boards a server knows of, when it heard of each, and how many it heard of lately.

A board whose key was removed is in the fleet no more: neither it nor what it has left is counted. Where the
key comes back, so does the board; with another key under its name, what came with the old one stays out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["LATELY_S", "Presence"]

#: A board that was not heard of for so long is not waited for.
LATELY_S = 7 * 86400.0
#: How often boards are counted: every request asks how many there are.
_COUNT_EVERY_S = 10.0
#: So long after its start a server reckons with every board: it was away itself, or its clock was set.
_FIRST_S = 3600.0


class Presence:
    """The boards; one thread calls ``heard``, any thread the others."""

    def __init__(
        self,
        heard_at: Mapping[str, float],
        now: Callable[[], float],
        monotonic: Callable[[], float],
        admitted: Callable[[], Mapping[str, str] | None],
    ) -> None:
        """Begin with what is known.

        Args:
            heard_at: When each board was heard of, s since the epoch.
            now: Wall clock, s.
            monotonic: Clock in seconds that is never set.
            admitted: The public keys that are known now, by board; None for all.
        """
        self._heard_at = dict(heard_at)
        #: The same of this process, by the monotonic clock.
        self._here: dict[str, float] = {}
        self._now = now
        self._monotonic = monotonic
        self._began = monotonic()
        self._admitted = admitted
        #: When boards were counted, of how many and of which admitted, and how many of them were heard of.
        self._counted: tuple[float, int, Mapping[str, str] | None, int] = (0.0, -1, None, 0)

    def admits(self, board: str, key: str = "") -> bool:
        """Whether a board's key is known, and is still this one; an empty one is not compared."""
        admitted = self._admitted()
        return admitted is None or (board in admitted and key in ("", admitted[board]))

    def key_of(self, board: str) -> str:
        """A board's public key; empty where none is known."""
        return (self._admitted() or {}).get(board, "")

    def heard(self, board: str) -> None:
        """Note that a board was heard of."""
        if not self._was_heard(board):
            self._counted = (0.0, -1, None, 0)  # it counts again from now on
        self._heard_at[board] = self._now()
        self._here[board] = self._monotonic()

    def heard_at(self) -> dict[str, float]:
        """When each admitted board was heard of, s since the epoch."""
        return {board: at for board, at in list(self._heard_at.items()) if self.admits(board)}

    def lately(self) -> int:
        """Admitted boards that were heard of within :data:`LATELY_S`."""
        here, admitted = self._monotonic(), self._admitted()
        counted_at, boards, which, count = self._counted
        changed = boards != len(self._heard_at) or which is not admitted
        if changed or here - counted_at >= _COUNT_EVERY_S:
            count = sum(map(self._was_heard, self.heard_at()))
            self._counted = (here, len(self._heard_at), admitted, count)
        return count

    def volunteers(self) -> int:
        """Boards whose counts are waited for: those heard of lately, at first all that are known."""
        early = self._monotonic() - self._began < _FIRST_S
        return len(self.heard_at()) if early else self.lately()

    def _was_heard(self, board: str) -> bool:
        """Whether a board was heard of lately: by the calendar only where that was another process."""
        here = self._here.get(board)
        if here is not None:
            return self._monotonic() - here <= LATELY_S
        at = self._heard_at.get(board)
        return at is not None and abs(self._now() - at) <= LATELY_S
