"""When each camera sent its last frame, by clocks that may be set, and how far ahead it dates them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["AHEAD_SECONDS", "CameraTimes", "LastFrame"]

#: Frames dated so far ahead of this board's clock are counted and warned of.
AHEAD_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class LastFrame:
    """Of one camera.

    Attributes:
        at: when its last frame came, wall-clock seconds of this board as its clock stands now.
        age: seconds since then, which no clock that is set changes.
        ahead: seconds by which that frame was dated ahead of this board; 0.0 for one that was not.
    """

    at: float
    age: float
    ahead: float = 0.0


class CameraTimes:
    """Written by the ingest thread, read by any."""

    def __init__(
        self, *, now: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._seen: dict[str, tuple[float, float]] = {}
        self._ahead: dict[str, float] = {}

    def seen(self, camera: str) -> None:
        """A frame of a camera came now."""
        self._seen[camera] = self._now(), self._monotonic()

    def known(self, cameras: Mapping[str, float]) -> None:
        """At the start: cameras that sent before, with the second of arrival of their last stored frame."""
        now, monotonic = self._now(), self._monotonic()
        for camera, at in cameras.items():
            # One that is dated later than now was stored while the clock was wrong.
            then = min(at, now)
            self._seen.setdefault(camera, (then, monotonic - (now - then)))

    def dated(self, camera: str, ahead: float) -> None:
        """A frame was dated so many seconds ahead of its arrival, negative for behind."""
        if ahead > AHEAD_SECONDS:
            self._ahead[camera] = ahead
        else:
            self._ahead.pop(camera, None)

    def forget(self, camera: str) -> None:
        """A camera has been removed."""
        self._seen.pop(camera, None)
        self._ahead.pop(camera, None)

    def report(self) -> dict[str, LastFrame]:
        """Each camera's last frame."""
        now, monotonic = self._now(), self._monotonic()
        found = {}
        for camera, (at, then) in sorted(self._seen.copy().items()):
            age = max(0.0, monotonic - then)
            was_set = abs(now - age - at) > 1.0
            found[camera] = LastFrame(
                at=now - age if was_set else at, age=age, ahead=self._ahead.get(camera, 0.0)
            )
        return found
