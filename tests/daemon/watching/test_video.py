"""A video of pictures: it plays as long as they took to come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from dance_ondevice.daemon.watching.video import CODECS, Video, VideoError


def record(file: Path, moments: Sequence[float], *, sizes: Sequence[tuple[int, int]] = ((48, 64),)) -> int:
    """Write a picture at each moment, each brighter than the one before; returns how many the video has."""
    clock = iter(moments)
    with Video(file, monotonic=lambda: next(clock)) as video:
        for number in range(len(moments)):
            height, width = sizes[number % len(sizes)]
            video.add(np.full((height, width, 3), 60 * number, np.uint8))
    return video.pictures


def play(file: Path) -> list[int]:
    """The brightness of each picture, and that all have one size."""
    capture, found = cv2.VideoCapture(str(file)), []
    while True:
        there, picture = capture.read()
        if not there:
            return found
        assert picture.shape == (48, 64, 3)
        found.append(int(picture[24, 32].mean()))


@pytest.mark.parametrize("ending", CODECS)
def test_it_plays_as_fast_as_the_pictures_came(tmp_path: Path, ending: str) -> None:
    file = tmp_path / "new" / f"a{ending}"
    assert record(file, [100.0, 100.2, 101.0, 101.2], sizes=((48, 64), (96, 128), (47, 63))) == 7
    assert play(file) == pytest.approx([0, 60, 60, 60, 60, 120, 180], abs=6)


def test_a_long_silence_is_cut(tmp_path: Path) -> None:
    assert record(tmp_path / "a.avi", [0.0, 3600.0, 3600.2]) == 1 + 50 + 2


def test_what_cannot_be_written_says_what_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VideoError, match=r"ends in \.mp4 or \.avi"):
        Video(tmp_path / "a.gif")
    (tmp_path / "a.avi").write_bytes(b"last week's")
    with pytest.raises(VideoError, match="is there already"):
        Video(tmp_path / "a.avi")
    monkeypatch.setitem(CODECS, ".mp4", "none")
    with pytest.raises(VideoError, match=r"lacks the codec none; name a file that ends in \.avi"):
        record(tmp_path / "a.mp4", [0.0])


def test_a_file_that_does_not_play_is_told(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    video = Video(file)
    video.add(np.zeros((48, 64, 3), np.uint8))
    file.unlink()
    with pytest.raises(VideoError, match="is the disk full"):
        video.close()
