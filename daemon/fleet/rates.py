"""How many requests each board may make: a bucket that fills at a steady rate."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Rates"]

#: Seconds' worth of requests that may come at once.
_BURST_S = 5.0


class Rates:
    """The requests that each board has left."""

    def __init__(self, per_second: float, monotonic: Callable[[], float]) -> None:
        self._per_second = per_second
        self._monotonic = monotonic
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, board: str) -> float:
        """Take one request of a board; returns 0, or how many seconds are missing to the next."""
        now, most = self._monotonic(), self._per_second * _BURST_S
        left, at = self._left.get(board, (most, now))
        left = min(most, left + (now - at) * self._per_second)
        allowed = left >= 1.0
        self._left[board] = (left - allowed, now)
        return 0.0 if allowed else (1.0 - left) / self._per_second
