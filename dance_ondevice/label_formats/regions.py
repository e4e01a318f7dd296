"""What was drawn on an image, and how that becomes a mask of class ids."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images.labels import IGNORE
from dance_ondevice.label_formats.rle import RleError

__all__ = [
    "Annotated",
    "Export",
    "FormatError",
    "OtherFormat",
    "Refused",
    "Region",
    "bitmap",
    "ellipse",
    "names",
    "paint",
    "polygons",
    "rectangle",
]

#: Sides beyond this are no frame of a camera; what a file says of its size must not fill the memory.
_LONGEST_SIDE = 32_768
_MOST_PIXELS = 1 << 26
#: Points are rasterised to this many bits behind the point.
_SHIFT = 4
#: Polygons are drawn so many times larger; odd, so that a pixel has one in its middle.
_ZOOM = 5
_FARTHEST = 1e6

#: Paints one region into a mask (H, W) of uint8 with an id.
Paint = Callable[[NDArray[np.uint8], int], None]


class FormatError(ValueError):
    """A file that is not what it is taken for, or a drawing that cannot be used; the text says where."""


class OtherFormat(FormatError):  # noqa: N818 - read as a state
    """A file that holds nothing of use here, whatever else lies beside it."""


@dataclass(frozen=True)
class Region:
    """One drawing: the class as its author called it, and what paints it."""

    name: str
    paint: Paint


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """One image's drawings, in the order in which they are painted: later ones cover earlier ones.

    Attributes:
        image: file name of the image, without folders.
        width: pixels of the image that was drawn on.
        height: pixels.
        given: the name as the file has it, where ``image`` is shown without what a tool put before it.
        regions: empty where nobody drew anything.
    """

    image: str
    width: int
    height: int
    regions: tuple[Region, ...]
    given: str = ""


@dataclass(frozen=True)
class Refused:
    """An image of an export that cannot be used, and why."""

    image: str
    why: str


@dataclass(frozen=True)
class Export:
    """What a file holds.

    Attributes:
        images: those that can be used; one without regions was listed, but nobody drew on it.
        refused: those that cannot.
        undrawn: names of images that are listed without so much as a size, because nobody drew on them.
        notes: what was passed over, in words.
    """

    images: tuple[Annotated, ...]
    refused: tuple[Refused, ...] = ()
    undrawn: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def names(images: Sequence[Annotated]) -> list[str]:
    """All class names that occur, sorted."""
    return sorted({region.name for image in images for region in image.regions})


def paint(image: Annotated, ids: Mapping[str, int], background: int = IGNORE) -> NDArray[np.uint8]:
    """The image's mask.

    Args:
        image: with its drawings.
        ids: class id by name, 255 to ignore; complete.
        background: id of what nobody drew on.

    Returns:
        (height, width) uint8.

    Raises:
        FormatError: a drawing does not fit the image.
    """
    mask = np.full((image.height, image.width), background, np.uint8)
    for region in image.regions:
        try:
            region.paint(mask, ids[region.name])
        except RleError as error:
            raise FormatError(f"{image.image}: a region of {region.name!r}: {error}") from error
    return mask


def check_size(width: object, height: object) -> tuple[int, int]:
    """Width and height as a file tells them.

    Raises:
        FormatError: they are no size of an image.
    """
    for side in (width, height):
        if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= _LONGEST_SIDE:
            raise FormatError(f"the size is {width!r} x {height!r}; sides are 1 to {_LONGEST_SIDE} pixels")
    assert isinstance(width, int)
    assert isinstance(height, int)
    if width * height > _MOST_PIXELS:
        raise FormatError(f"the size is {width} x {height}: more than {_MOST_PIXELS} pixels")
    return width, height


def polygons(rings: Sequence[Sequence[tuple[float, float]]]) -> Paint:
    """Outlines in pixels, filled together by the even-odd rule: a ring inside another one is a hole.

    Coordinates have their origin at the image's upper left corner, so the middle of the first pixel is at
    (0.5, 0.5). A pixel belongs to the polygon when its middle does, to within a tenth of a pixel.

    Raises:
        FormatError: an outline of less than three points, or a point that is none.
    """
    if not rings:
        raise FormatError("a polygon without an outline")
    corners: list[NDArray[np.float64]] = []
    for ring in rings:
        if len(ring) < 3:
            raise FormatError(f"a polygon of {len(ring)} points; it takes three or more")
        if not all(math.isfinite(c) and abs(c) <= _FARTHEST for point in ring for c in point):
            raise FormatError("a polygon with a point that is no place in an image")
        corners.append(np.asarray(ring, np.float64))
    low = np.floor(np.min([ring.min(axis=0) for ring in corners], axis=0)).astype(int)
    high = np.ceil(np.max([ring.max(axis=0) for ring in corners], axis=0)).astype(int)

    def fill(mask: NDArray[np.uint8], class_id: int) -> None:
        import cv2

        height, width = mask.shape
        x0, y0 = max(0, int(low[0])), max(0, int(low[1]))
        x1, y1 = min(width, int(high[0])), min(height, int(high[1]))
        if x0 >= x1 or y0 >= y1:
            return
        # cv2 fills the pixels on the outline as well: drawn large, that is a fraction of a pixel here.
        zoom = _ZOOM if (x1 - x0) * (y1 - y0) * _ZOOM**2 <= _MOST_PIXELS else 1
        large = np.zeros(((y1 - y0) * zoom, (x1 - x0) * zoom), np.uint8)
        # cv2 has the middle of the first pixel at (0, 0).
        points = [((ring - (x0, y0)) * zoom - 0.5) * (1 << _SHIFT) for ring in corners]
        cv2.fillPoly(large, [np.rint(p).astype(np.int32) for p in points], (1,), cv2.LINE_8, _SHIFT)
        mask[y0:y1, x0:x1][large[zoom // 2 :: zoom, zoom // 2 :: zoom] == 1] = class_id

    return fill


def rectangle(left: float, top: float, right: float, bottom: float) -> Paint:
    """A filled box, edges in pixels."""
    if not all(math.isfinite(edge) for edge in (left, top, right, bottom)):
        raise FormatError("a box with an edge that is no number")

    def fill(mask: NDArray[np.uint8], class_id: int) -> None:
        height, width = mask.shape
        rows = slice(_edge(top, height), _edge(bottom, height))
        columns = slice(_edge(left, width), _edge(right, width))
        mask[rows, columns] = class_id

    return fill


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Paint:
    """A filled ellipse, as a polygon of 72 corners."""
    turn = math.radians(degrees)
    corners = []
    for step in range(72):
        angle = math.tau * step / 72
        along, across = radius_x * math.cos(angle), radius_y * math.sin(angle)
        corners.append(
            (
                x + along * math.cos(turn) - across * math.sin(turn),
                y + along * math.sin(turn) + across * math.cos(turn),
            )
        )
    return polygons([corners])


def bitmap(decode: Callable[[], NDArray[np.bool_]], left: int = 0, top: int = 0) -> Paint:
    """A binary mask, decoded when it is painted; what lies outside the image is cut off."""

    def fill(mask: NDArray[np.uint8], class_id: int) -> None:
        found = decode()
        if not found.any():
            raise RleError("it holds no pixel: draw it again, or delete it")
        height, width = mask.shape
        rows, columns = found.shape
        y0, x0 = max(0, top), max(0, left)
        y1, x1 = min(height, top + rows), min(width, left + columns)
        if y0 < y1 and x0 < x1:
            mask[y0:y1, x0:x1][found[y0 - top : y1 - top, x0 - left : x1 - left]] = class_id

    return fill


def _edge(value: float, limit: int) -> int:
    return min(limit, max(0, math.floor(value + 0.5)))
