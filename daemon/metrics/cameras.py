"""The times of the cameras' last frames, unaffected by clock changes, and how far ahead they are dated."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["AHEAD_SECONDS", "CameraTimes", "LastFrame"]

#: Seconds ahead of this board's clock from which a frame's date is counted and warned about.
AHEAD_SECONDS = 60.0
#: Changes back to an earlier sender that are warned about, each within so many seconds of the one before.
_CHANGES, _CHANGE_SECONDS = 3, 600.0


@dataclass(frozen=True, kw_only=True)
class LastFrame:
    """The last frame of one camera.

    Attributes:
        at: When it came, in wall-clock seconds of this board by its present clock.
        age: Seconds since then, by the monotonic clock.
        ahead: Seconds by which the frame was dated ahead of this board; 0.0 if it was not.
        shared: Whether several senders take turns under the name.
    """

    at: float
    age: float
    ahead: float = 0.0
    shared: bool = False


class CameraTimes:
    """The times of all cameras' last frames; written by the ingest thread, readable by any."""

    def __init__(
        self, *, now: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._seen: dict[str, tuple[float, float]] = {}
        self._ahead: dict[str, float] = {}
        #: By camera, the changes of its sender in a row, and the monotonic second of the last one.
        self._changes: dict[str, tuple[int, float]] = {}

    def seen(self, camera: str) -> None:
        """Record that a frame of a camera has just come."""
        self._seen[camera] = self._now(), self._monotonic()

    def known(self, cameras: Mapping[str, float]) -> None:
        """Add cameras at the start, with the arrival second of their last stored frame."""
        now, monotonic = self._now(), self._monotonic()
        for camera, at in cameras.items():
            # A sample that is dated later than now was stored while the clock was wrong.
            then = min(at, now)
            self._seen.setdefault(camera, (then, monotonic - (now - then)))

    def dated(self, camera: str, ahead: float) -> None:
        """Record by how many seconds a frame was dated ahead of its arrival; negative for behind."""
        if ahead > AHEAD_SECONDS:
            self._ahead[camera] = ahead
        else:
            self._ahead.pop(camera, None)

    def sender_changed(self, camera: str) -> None:
        """Record that frames of a camera came from an earlier sender again."""
        count = self._changes_of(camera, self._monotonic())
        self._changes[camera] = count + 1, self._monotonic()

    def _changes_of(self, camera: str, now: float) -> int:
        count, last = self._changes.get(camera, (0, now))
        return count if now - last < _CHANGE_SECONDS else 0

    def forget(self, camera: str) -> None:
        """Forget a camera that was removed."""
        self._changes.pop(camera, None)
        self._seen.pop(camera, None)
        self._ahead.pop(camera, None)

    def report(self) -> dict[str, LastFrame]:
        """The last frame of each camera."""
        now, monotonic = self._now(), self._monotonic()
        found = {}
        for camera, (at, then) in sorted(self._seen.copy().items()):
            age = max(0.0, monotonic - then)
            was_set = abs(now - age - at) > 1.0
            found[camera] = LastFrame(
                at=now - age if was_set else at,
                age=age,
                ahead=self._ahead.get(camera, 0.0),
                shared=self._changes_of(camera, monotonic) >= _CHANGES,
            )
        return found
