"""Where a viewer's pictures go: files, a video, the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.daemon.watching.page import Pictures
from dance_ondevice.daemon.watching.video import PICTURES_PER_SECOND, Video
from dance_ondevice.files import write_whole
from dance_ondevice.images.codec import encode_png

__all__ = ["OnPage", "OneVideo", "Output", "PictureFiles"]

#: People cannot take in more than about one picture a second, unless it moves.
_STILL_SECONDS = 1.0


class Output(Protocol):
    """Takes pictures, at most one in so many ``seconds``."""

    seconds: float

    def put(self, camera: str, picture: NDArray[np.uint8]) -> str:
        """Take a camera's picture, (H, W, 3) uint8, BGR; returns in words where it is, "" for nowhere new.

        Raises:
            OSError, VideoError: It cannot be written.
        """


class OnPage:
    """Shows pictures on the page."""

    seconds = _STILL_SECONDS

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures

    def put(self, camera: str, picture: NDArray[np.uint8]) -> str:
        """Replace the camera's picture."""
        self._pictures.put(camera, encode_png(picture))
        return ""


class PictureFiles:
    """Keeps the latest picture in a file, or that of each camera in a file of a folder."""

    seconds = _STILL_SECONDS

    def __init__(self, out: Path) -> None:
        """Check the name.

        Raises:
            ValueError: It is neither that of a folder nor of a PNG file.
        """
        self._one = out.suffix.lower() == ".png" and not out.is_dir()
        if out.suffix and not self._one and not out.is_dir():
            raise ValueError(f"{out}: give a .png file, a .mp4 or .avi file, or a folder")
        self._out = out

    def put(self, camera: str, picture: NDArray[np.uint8]) -> str:
        """Replace the file."""
        file = self._out if self._one else self._out / (re.sub(r"[^A-Za-z0-9_-]", "_", camera) + ".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, encode_png(picture))
        return f"written to {file}"


class OneVideo:
    """Appends the pictures of one camera, by default the first that is seen, to a video."""

    seconds = 1.0 / PICTURES_PER_SECOND

    def __init__(self, video: Video, camera: str | None) -> None:
        self._video = video
        self._camera = camera

    def put(self, camera: str, picture: NDArray[np.uint8]) -> str:
        """Append the picture, unless it is another camera's."""
        self._camera = self._camera or camera
        if camera == self._camera:
            self._video.add(picture)
        return f"{self._video.seconds:.0f} s of {self._camera} in the video"
