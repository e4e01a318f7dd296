"""Which boards a server knows of, when it heard of each, and how many it heard of lately.

A board whose key was removed is in the fleet no more: neither it nor what it has left is counted. Where the
key comes back, so does the board.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

__all__ = ["LATELY_S", "Presence"]

#: A board that was not heard of for so long is not waited for.
LATELY_S = 7 * 86400.0
#: How often boards are counted: every request asks how many there are.
_COUNT_EVERY_S = 10.0


class Presence:
    """The boards; one thread calls ``heard``, any thread the others."""

    def __init__(
        self,
        heard_at: Mapping[str, float],
        now: Callable[[], float],
        admitted: Callable[[], Collection[str] | None],
    ) -> None:
        """Begin with what is known.

        Args:
            heard_at: When each board was heard of, s since the epoch.
            now: Wall clock, s.
            admitted: The boards whose keys are known now; None for all.
        """
        self._heard_at = dict(heard_at)
        self._now = now
        self._admitted = admitted
        #: When boards were counted, of how many and of which admitted, and how many of them were heard of.
        self._counted: tuple[float, int, Collection[str] | None, int] = (0.0, -1, None, 0)

    def admits(self, board: str) -> bool:
        """Whether a board's key is known."""
        admitted = self._admitted()
        return admitted is None or board in admitted

    def heard(self, board: str) -> None:
        """Note that a board was heard of."""
        now = self._now()
        if not 0 <= now - self._heard_at.get(board, 0.0) <= LATELY_S:
            self._counted = (0.0, -1, None, 0)  # it counts again from now on
        self._heard_at[board] = now

    def heard_at(self) -> dict[str, float]:
        """When each admitted board was heard of, s since the epoch."""
        return {board: at for board, at in list(self._heard_at.items()) if self.admits(board)}

    def lately(self) -> int:
        """Admitted boards that were heard of within :data:`LATELY_S`."""
        now, admitted, (counted_at, boards, which, count) = self._now(), self._admitted(), self._counted
        changed = boards != len(self._heard_at) or which is not admitted
        if changed or not 0 <= now - counted_at < _COUNT_EVERY_S:
            count = sum(now - at <= LATELY_S for at in self.heard_at().values())
            self._counted = (now, len(self._heard_at), admitted, count)
        return count
