"""Detects when the wall clock is set, the board was suspended or local time has another offset.

A clock is set by NTP on a board without a battery, or by a person.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["EARLIEST", "ClockWatch", "ZoneWatch", "since_boot"]

#: Seconds since the epoch, 2025-01-01: a clock before this release was never set.
EARLIEST = 1_735_689_600.0

#: Seconds by which the clocks may differ between two checks: NTP slews a clock much more slowly than this.
_SLEWED = 1.0


def since_boot() -> float:
    """Seconds since the board was started, with the time that it was suspended.

    The monotonic clock stands still meanwhile: on a board that sleeps at night a budget of joules a day would
    fill too slowly by it, and an interval would not end.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockWatch:
    """Compares the wall clock with the monotonic clock at each call, or two other clocks."""

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


class ZoneWatch:
    """Compares the offset of local time from UTC at each call, by the time zone that the machine has then."""

    def __init__(self) -> None:
        self._offset = _local_offset()

    def moved(self) -> float:
        """Seconds by which local time is further ahead of UTC than at the last call; else 0.0."""
        offset = _local_offset()
        by = offset - self._offset
        self._offset = offset
        return by


def _local_offset() -> float:
    time.tzset()  # threads do not see another /etc/localtime until the C library has been asked to look
    return float(time.localtime().tm_gmtoff)
