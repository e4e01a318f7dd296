"""The frames of ``bench service``: a camera that drives, and two that stand at the street."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.datasets.street_world import Layout
from dance_ondevice.images import codec as images

_QUALITY = 90
#: The place of the standing cameras: houses, trees and parked cars on both sides.
_PLACE = 100
#: Frames of the street are a tenth of a second apart.
_STREET_FPS = 10.0
#: Frames between two pictures: enough for another scene; and how many frames are made of each.
_STRIDE, _PIECES = 7, 16
#: Seconds of which the first share is busy.
_PERIOD = 40.0
_BUSY = 0.3


@dataclass(frozen=True)
class Frame:
    """A frame as it is sent, and its true label (h, w) uint8."""

    jpeg: bytes
    label: NDArray[np.uint8]


def driving(count: int, fps: float, size: tuple[int, int]) -> list[Frame]:
    """Frames of (height, width) from a car."""
    camera = StreetCamera(seed=0, height=size[0], width=size[1])
    return [_frame(camera, index) for index in _indices(count, fps)]


def distinct(count: int, size: tuple[int, int]) -> list[bytes]:
    """JPEGs of (height, width) none of which repeats another: pieces of a few pictures, some mirrored.

    They come in an order by chance. One picture's pieces have nearly the same detail: in a row, a policy
    would rank all of them at one end of what came before, and store most frames at one and the same scale.
    """
    camera = StreetCamera(seed=0, height=size[0], width=size[1])
    pictures = [camera.render(_STRIDE * number)[0] for number in range(max(1, count // _PIECES))]
    found = []
    for number in range(count):
        picture = pictures[number // _PIECES % len(pictures)]
        piece = number % _PIECES
        moved = np.roll(picture, piece // 2 * picture.shape[1] // (_PIECES // 2), axis=1)
        found.append(images.encode_jpeg(moved[:, ::-1].copy() if piece % 2 else moved, _QUALITY))
    return [found[place] for place in np.random.default_rng(0).permutation(count)]


def standing(count: int, fps: float, size: tuple[int, int]) -> list[Frame]:
    """Frames of a street at which nothing moves for seven tenths of the time."""
    still = Layout(moving=0.0)
    busy, quiet = (
        StreetCamera(seed=0, height=size[0], width=size[1], layout=layout, standing_at=_PLACE)
        for layout in (Layout(), still)
    )
    share = [(number / fps % _PERIOD) / _PERIOD for number in range(count)]
    return [
        _frame(busy if at < _BUSY else quiet, index)
        for at, index in zip(share, _indices(count, fps), strict=True)
    ]


def thin(count: int, fps: float, size: tuple[int, int]) -> list[Frame]:
    """Frames of a street with three tenths of the usual traffic at any time."""
    layout = Layout(traffic=_BUSY)
    camera = StreetCamera(seed=0, height=size[0], width=size[1], layout=layout, standing_at=_PLACE)
    return [_frame(camera, index) for index in _indices(count, fps)]


def _indices(count: int, fps: float) -> Iterator[int]:
    return (round(number * _STREET_FPS / fps) for number in range(count))


def _frame(camera: StreetCamera, index: int) -> Frame:
    image, label = camera.render(index)
    return Frame(images.encode_jpeg(image, _QUALITY), label)
