"""Videos and cameras as sources: no wait is endless, and a camera that falls silent is opened again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: Seconds between two attempts to open a camera again.
_PAUSE = 1.0


class SourceSilent(OSError):  # noqa: N818 - the state of a source, named as such
    """A live source has stopped to send; the text says for how long."""


class Capture(Protocol):
    """The part of ``cv2.VideoCapture`` that is used."""

    def isOpened(self) -> bool:  # noqa: N802
        """Whether frames can be read."""

    def get(self, propId: int, /) -> float:  # noqa: N803
        """A property; 0 when it is not known."""

    def read(self) -> tuple[bool, Any]:
        """Whether there was a next frame, and the frame (h, w, 3) in BGR."""

    def release(self) -> None:
        """Close it."""


@dataclass(frozen=True, kw_only=True)
class Silence:
    """What to do when a live source sends nothing.

    Attributes:
        timeout: seconds that opening it, and waiting for a frame, may take.
        reconnect: further seconds in which it is opened again and again; 0 for not at all.
        say: told in words what happens.
        monotonic: seconds.
        sleep: waits so many seconds.
    """

    timeout: float = 10.0
    reconnect: float = 20.0
    say: Callable[[str], None] = lambda text: None
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def open_capture(where: str | int, timeout: float = 10.0) -> Capture:
    """Open a video file, a URL, or a camera by its number.

    Args:
        where: the file, URL or number.
        timeout: seconds that a URL may take to open, and each of its frames to arrive; OpenCV's own are 30.
    """
    import cv2

    if isinstance(where, int) or "://" not in where:
        return cv2.VideoCapture(where)
    limit = max(1, round(timeout * 1000))
    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
    return cv2.VideoCapture(where, cv2.CAP_ANY, options)


def footage(capture: Capture) -> Iterator[NDArray[np.uint8]]:
    """The frames of an opened video, (h, w, 3) BGR, up to its end; it is closed then."""
    try:
        while True:
            there, bgr = capture.read()
            if not there:
                return
            yield bgr
    finally:
        capture.release()


def live(
    spec: str, capture: Capture, reopen: Callable[[], Capture], silence: Silence
) -> Iterator[NDArray[np.uint8]]:
    """The frames of an opened camera, (h, w, 3) BGR, without an end.

    Args:
        spec: its name, for what is said.
        capture: opened; closed when the iterator is.
        reopen: opens it again; what it returns need not be open.
        silence: what to do when no frame comes.

    Raises:
        SourceSilent: no frame came for longer than ``silence`` allows.
    """
    last = silence.monotonic()
    told = False
    try:
        while True:
            there, bgr = capture.read()
            if there:
                if told:
                    silence.say(f"{spec} sends again")
                last, told = silence.monotonic(), False
                yield bgr
                continue
            capture.release()
            if not told:
                silence.say(f"{spec} sends nothing; opening it again for up to {silence.reconnect:g} s")
                told = True
            capture = _opened_again(reopen, last, silence)
    finally:
        capture.release()


def _opened_again(reopen: Callable[[], Capture], last: float, silence: Silence) -> Capture:
    """The camera, open; ``last`` is the moment of its last frame."""
    give_up_at = last + silence.timeout + silence.reconnect
    while silence.reconnect > 0 and silence.monotonic() < give_up_at:
        silence.sleep(_PAUSE)
        capture = reopen()
        if capture.isOpened():
            return capture
        capture.release()
    raise SourceSilent(f"the source sent nothing for {silence.monotonic() - last:.0f} s")
