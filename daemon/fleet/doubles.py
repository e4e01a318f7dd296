"""Tells two boards that use one kit apart: a copied SD card takes the board's keys along.

Each start of a board's daemon has a random word. A restarted one never says an earlier word again; two that
run side by side do, turn by turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["Doubles"]

#: Words of a board that are remembered.
_REMEMBERED = 8
#: Returns of an earlier word that show it. One might be a request that was long on its way.
_RETURNS = 2
#: How long after the last return two boards are taken for granted, s, and in turns of a board at least: the
#: next return comes within one.
_HOLD_S, _HOLD_TURNS = 3600.0, 2


class Doubles:
    """The words that each board's daemons said, newest last."""

    def __init__(self, monotonic: Callable[[], float], *, turn_s: float = 0.0) -> None:
        """``turn_s`` is how often a board is heard of, s."""
        self._monotonic = monotonic
        self._hold_s = max(_HOLD_S, _HOLD_TURNS * turn_s)
        self._words: dict[str, deque[str]] = {}
        self._returns: dict[str, deque[float]] = {}

    def heard(self, board: str, word: str) -> bool:
        """Note a word, empty of an earlier release; returns whether two boards use this kit."""
        words = self._words.setdefault(board, deque(maxlen=_REMEMBERED))
        returns = self._returns.setdefault(board, deque(maxlen=_RETURNS))
        if word and word in words and words[-1] != word:
            words.remove(word)
            returns.append(self._monotonic())
        if word and (not words or words[-1] != word):
            words.append(word)
        return len(returns) == _RETURNS and self._monotonic() - returns[0] < self._hold_s
