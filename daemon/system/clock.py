"""Detects when the wall clock is set, by NTP on a board without a battery, or by a person."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["EARLIEST", "ClockWatch"]

#: Seconds since the epoch, 2025-01-01: a clock before this release was never set.
EARLIEST = 1_735_689_600.0

#: Seconds by which the clocks may differ between two checks: NTP slews a clock much more slowly than this.
_SLEWED = 1.0


class ClockWatch:
    """Compares the wall clock with the monotonic clock at each call."""

    def __init__(self, now: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._now = now
        self._monotonic = monotonic
        self._apart = now() - monotonic()

    def moved(self) -> float:
        """Seconds by which the wall clock was set since the last call, negative for backwards; else 0.0."""
        apart = self._now() - self._monotonic()
        by = apart - self._apart
        self._apart = apart
        return by if abs(by) > _SLEWED else 0.0
