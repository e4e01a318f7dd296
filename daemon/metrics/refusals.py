"""Which frames were refused of late, and why: a camera's sender seldom shows what it was told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Refusals", "Refused"]

#: Seconds for which a refusal is told.
_RECENT = 600.0
_LONGEST = 200


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Frames that were refused, none of them long after the one before.

    Attributes:
        camera: The last one's camera as its sender named it; empty where the message did not say.
        frames: How many there were.
        text: What the last one's sender was told, as one printable line.
        age: Seconds since the last one.
    """

    camera: str
    frames: int
    text: str
    age: float


class Refusals:
    """The refused frames of the last minutes; written by the ingest thread, readable by any."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last: tuple[float, str, int, str] | None = None

    def refused(self, camera: str, text: str) -> None:
        """Take note of a refused frame; camera and text may hold whatever a sender has sent."""
        now, last = self._monotonic(), self._last
        frames = last[2] + 1 if last is not None and now - last[0] < _RECENT else 1
        self._last = now, _printable(camera), frames, _printable(text)

    def recent(self) -> Refused | None:
        """The refused frames, if the last one is not long ago."""
        last = self._last
        if last is None or (age := self._monotonic() - last[0]) >= _RECENT:
            return None
        return Refused(camera=last[1], frames=last[2], text=last[3], age=age)


def _printable(text: str) -> str:
    """The beginning of a text, without what could steer a terminal."""
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return "".join(sign if sign.isprintable() else "?" for sign in short)
