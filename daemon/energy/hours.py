"""Joules by hour and workload since the daemon started: two days of them, in memory."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from typing import Any

__all__ = ["Hours"]

_MOST_HOURS = 48


class Hours:
    """Sums by hour; one thread adds, any may read."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, float]] = {}
        self._lock = threading.Lock()

    def add(self, now: float, workload: str, joules: float) -> None:
        """Add joules to the hour of a wall-clock second."""
        hour = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:00Z")
        with self._lock:
            of_hour = self._sums.setdefault(hour, {})
            of_hour[workload] = of_hour.get(workload, 0.0) + joules
            while len(self._sums) > _MOST_HOURS:
                # The one that came first: by its name it may be yet to come, where the clock was ahead.
                del self._sums[next(iter(self._sums))]

    def rows(self) -> list[dict[str, Any]]:
        """``hour`` (UTC, ISO 8601), ``workload`` and ``joules`` of each sum, the oldest hour first."""
        with self._lock:
            return [
                {"hour": hour, "workload": workload, "joules": joules}
                for hour, sums in sorted(self._sums.items())
                for workload, joules in sorted(sums.items())
            ]
