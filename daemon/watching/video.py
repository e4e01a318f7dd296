"""Writes pictures as a video that plays as fast as they came."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["CODECS", "PICTURES_PER_SECOND", "Video", "VideoError"]

#: Codecs by the ending of the file, which every wheel of OpenCV has.
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
PICTURES_PER_SECOND = 5
#: A longer silence of the camera, in seconds, is cut to this length.
_LONGEST_STILL = 10


class VideoError(RuntimeError):
    """A video cannot be written; says what to do."""


class Video:
    """A video file, written from the first picture on; a context manager for one thread.

    The last picture is repeated while none comes, so that the video takes as long as the recording did.
    """

    def __init__(self, file: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Check the file's name.

        Raises:
            VideoError: The ending is not that of a video, or the file is there already.
        """
        if file.suffix.lower() not in CODECS:
            raise VideoError(f"{file}: a video ends in {' or '.join(CODECS)}")
        if file.exists():
            raise VideoError(f"{file} is there already; name another one")
        self._file = file
        self._monotonic = monotonic
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._started = 0.0
        self._last: NDArray[np.uint8] | None = None
        #: Number of pictures in the video, repeated ones among them.
        self.pictures = 0

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def seconds(self) -> float:
        """How long the video plays."""
        return self.pictures / PICTURES_PER_SECOND

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append a picture; one of another size is brought to the first one's.

        Args:
            picture: (H, W, 3) uint8, BGR.

        Raises:
            VideoError: The file cannot be written, or this OpenCV lacks the codec.
            OSError: The folder cannot be made.
        """
        now = self._monotonic()
        if self._writer is None:
            self._writer = self._open(picture)
            self._started = now
        due = int((now - self._started) * PICTURES_PER_SECOND)
        if due - self.pictures > _LONGEST_STILL * PICTURES_PER_SECOND:
            cut = due - self.pictures - _LONGEST_STILL * PICTURES_PER_SECOND
            self._started += cut / PICTURES_PER_SECOND
            due -= cut
        if self._last is not None:
            while self.pictures < due:
                self._write(self._writer, self._last)
        self._last = self._fit(picture)
        self._write(self._writer, self._last)

    def close(self) -> None:
        """Finish the file, so that it plays.

        Raises:
            VideoError: It does not, because pictures could not be written.
        """
        if self._writer is None:
            return
        self._writer.release()  # which tells of no failure, as ``write`` does not
        self._writer = None
        if not cv2.VideoCapture(str(self._file)).isOpened():
            raise VideoError(f"{self._file} is damaged; is the disk full?")

    def _open(self, picture: NDArray[np.uint8]) -> cv2.VideoWriter:
        height, width = picture.shape[:2]
        self._size = (width + width % 2, height + height % 2)  # codecs halve both for colour
        self._file.parent.mkdir(parents=True, exist_ok=True)
        codec = CODECS[self._file.suffix.lower()]
        found = cv2.VideoWriter(
            str(self._file), cv2.VideoWriter.fourcc(*codec), PICTURES_PER_SECOND, self._size
        )
        if not found.isOpened():
            others = " or ".join(ending for ending in CODECS if ending != self._file.suffix.lower())
            raise VideoError(
                f"{self._file} cannot be written: the folder does not allow it, or this OpenCV lacks the "
                f"codec {codec}; name a file that ends in {others}, or a folder for pictures"
            )
        return found

    def _fit(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        width, height = self._size
        found = picture[:height, :width]
        if picture.shape[0] in (height, height - 1) and picture.shape[1] in (width, width - 1):
            edge = ((0, height - found.shape[0]), (0, width - found.shape[1]), (0, 0))
            return np.pad(found, edge, mode="edge")
        return np.asarray(cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA), np.uint8)

    def _write(self, writer: cv2.VideoWriter, picture: NDArray[np.uint8]) -> None:
        writer.write(picture)
        self.pictures += 1
