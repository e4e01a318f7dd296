"""Videos and cameras as sources, with time limits, reopening a camera that stops sending."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

#: Seconds between two attempts to open a camera again.
_PAUSE = 1.0
#: Options of FFmpeg's inputs, as OpenCV reads them.
_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
#: So many frames from the first on that are alike in each bit are told of: even a still scene has noise.
_ALIKE = 25
#: Most boxes of a file that are looked at, and the last place in it.
_MOST_BOXES, _FARTHEST = 1000, 1 << 62
#: Durations of a file that says none, in 32 and 64 bits.
_UNKNOWN = (0, (1 << 32) - 1, (1 << 64) - 1)


class SourceSilent(OSError):  # noqa: N818 - the state of a source, named as such
    """A live source has stopped sending; the message says for how long."""


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


class Unplugged:
    """A camera that is not there."""

    def isOpened(self) -> bool:  # noqa: D102, N802
        return False

    def get(self, propId: int, /) -> float:  # noqa: D102, N803
        return 0.0

    def read(self) -> tuple[bool, Any]:  # noqa: D102
        return False, None

    def release(self) -> None:  # noqa: D102
        return


@dataclass(frozen=True, kw_only=True)
class Silence:
    """Rules for a live source that sends nothing.

    Attributes:
        timeout: Seconds that opening the source, and waiting for a frame, may take.
        reconnect: Further seconds during which opening it is tried again; 0 for no attempt.
        say: Called with a message about what happens.
        monotonic: Monotonic clock, in seconds.
        sleep: Waits for a number of seconds.
    """

    timeout: float = 10.0
    reconnect: float = 20.0
    say: Callable[[str], None] = lambda text: None
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def open_capture(where: str | int, timeout: float = 10.0) -> Capture:
    """Open a video file, a URL, or a camera by its number.

    Args:
        where: The file, URL or number.
        timeout: Seconds that a URL may take to open, and each of its frames to arrive; OpenCV's default is
            30.
    """
    import cv2

    if isinstance(where, str) and Path(where).is_fifo():
        with _short_look():
            return cv2.VideoCapture(where)
    if isinstance(where, int) or "://" not in where:
        return cv2.VideoCapture(where)
    limit = max(1, round(timeout * 1000))
    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
    return cv2.VideoCapture(where, cv2.CAP_ANY, options)


@contextlib.contextmanager
def _short_look() -> Iterator[None]:
    """Have FFmpeg look at 32 KB and 0.2 s of a stream before the first frame.

    By itself it takes 1 MB and 5 s, of MJPEG 125 frames, which is minutes of a slow camera. OpenCV takes this
    from the environment alone; what the user has set there stands.
    """
    if _FFMPEG_OPTIONS in os.environ:
        yield
        return
    os.environ[_FFMPEG_OPTIONS] = "formatprobesize;32768|analyzeduration;200000"
    try:
        yield
    finally:
        del os.environ[_FFMPEG_OPTIONS]


def duration(path: Path) -> float | None:
    """How many seconds an MP4 or QuickTime file lasts by its header; None for other files.

    Of these OpenCV tells how many frames there are, but not over which time: the rate that it gives for one
    of variable rate, as phones write them, may be the finest step of its clock.
    """
    try:
        with path.open("rb") as file:
            if not (_find_box(file, b"moov") and _find_box(file, b"mvhd")):
                return None
            # Its version and flags, the times of creation and change, the ticks a second, and the ticks.
            layout = ">3x8xII" if file.read(1) == b"\0" else ">3x16xIQ"
            scale, ticks = struct.unpack(layout, file.read(struct.calcsize(layout)))
    except (OSError, struct.error):
        return None
    return ticks / scale if scale and ticks not in _UNKNOWN else None


def _find_box(file: BinaryIO, kind: bytes) -> bool:
    """Move to the content of the next box of a kind; whether there is one."""
    for _ in range(_MOST_BOXES):
        begin = file.tell()
        size, found = struct.unpack(">I4s", file.read(8))
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
        if found == kind:
            return True
        if size < 8:  # 0: it goes on to the end
            return False
        file.seek(min(begin + size, _FARTHEST))
    return False


def footage(capture: Capture) -> Iterator[tuple[float | None, NDArray[np.uint8]]]:
    """Yields the frames of an opened video, and closes it at its end.

    Each is (h, w, 3) BGR, with its time in seconds after the first one; None where the file has no times that
    rise.
    """
    import cv2

    first: float | None = None
    last = -1.0
    try:
        while True:
            there, bgr = capture.read()
            if not there:
                return
            at = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            first = at if first is None else first
            rises = at >= 0 and at - first > last
            last = max(last, at - first)
            yield (at - first if rises else None), bgr
    finally:
        capture.release()


def told_if_unchanging(
    spec: str, frames: Iterator[tuple[float | None, NDArray[np.uint8]]], say: Callable[[str], None]
) -> Iterator[tuple[float | None, NDArray[np.uint8]]]:
    """Yields the frames as they come, and says so once where all of the first ones are the same.

    OpenCV from 4.13 on cannot convert interlaced frames. It gives one picture for all of them and tells
    nobody but the standard error.
    """
    first, alike = None, 0
    for at, bgr in frames:
        if alike < _ALIKE:
            if first is None:
                first = bgr
            alike = alike + 1 if np.array_equal(first, bgr) else _ALIKE + 1
            if alike == _ALIKE:
                say(
                    f"the first {_ALIKE} frames of {spec} are one picture, bit by bit: it stands still, or "
                    "it is interlaced, which OpenCV from 4.13 on cannot read: set the camera to progressive, "
                    "or send `ffmpeg -i SOURCE -vf yadif -c:v mjpeg -q:v 3 -f mjpeg - | "
                    "dance-ondevice stream -`"
                )
        yield at, bgr


def live(
    spec: str, capture: Capture, reopen: Callable[[], Capture], silence: Silence
) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames of an opened camera, (h, w, 3) BGR, without end.

    Args:
        spec: The camera's name, for messages.
        capture: The opened camera; it is closed when the iterator is.
        reopen: Tries to open it again; the result need not be open.
        silence: Rules for when no frame comes.

    Raises:
        SourceSilent: No frame came for longer than ``silence`` allows.
    """
    last = silence.monotonic()
    reported = False
    try:
        while True:
            there, bgr = capture.read()
            if there:
                if reported:
                    silence.say(f"{spec} sends again")
                last, reported = silence.monotonic(), False
                yield bgr
                continue
            capture.release()
            if not reported:
                silence.say(f"{spec} sends nothing; opening it again for up to {silence.reconnect:g} s")
                reported = True
            capture = _opened_again(reopen, last, silence)
    finally:
        capture.release()


def _opened_again(reopen: Callable[[], Capture], last: float, silence: Silence) -> Capture:
    """The camera, opened again; ``last`` is the moment of its last frame."""
    give_up_at = last + silence.timeout + silence.reconnect
    while silence.reconnect > 0 and silence.monotonic() < give_up_at:
        silence.sleep(_PAUSE)
        capture = reopen()
        if capture.isOpened():
            return capture
        capture.release()
    raise SourceSilent(f"the source sent nothing for {silence.monotonic() - last:.0f} s")
