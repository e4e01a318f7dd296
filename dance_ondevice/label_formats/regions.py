"""Regions drawn on an image, and painting them into a mask of class ids."""

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
    "position",
    "rectangle",
    "traced",
    "traced_pixels",
]

#: Longest side of an image in pixels: a size in a file must not exhaust the memory.
_LONGEST_SIDE = 32_768
_MOST_PIXELS = 1 << 26
#: Number of fractional bits of rasterised points.
_SHIFT = 4
#: Factor by which polygons are drawn larger; odd, so that the centre of a pixel is one of the larger pixels.
_ZOOM = 5
#: Most pixels of the larger drawing that is made at once, a band of rows.
_BAND_PIXELS = 1 << 26
_FARTHEST = 1e6

#: Function that paints one region into a mask (H, W) of uint8 with an id.
Paint = Callable[[NDArray[np.uint8], int], None]


class FormatError(ValueError):
    """Error: a file has another format, or a drawing cannot be used; the message says where."""


class OtherFormat(FormatError):  # noqa: N818 - read as a state
    """Error: a file of another format, without usable labels; other files beside it may still be usable."""


@dataclass(frozen=True)
class Region:
    """One drawing: the name of its class, and the function that paints it."""

    name: str
    paint: Paint


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """Drawings of one image, in the order of painting: later ones cover earlier ones.

    Attributes:
        image: File name of the image, without folders.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        given: Name in the export, if ``image`` is without its folders or the prefix of a tool.
        regions: Drawings; empty without any.
    """

    image: str
    width: int
    height: int
    regions: tuple[Region, ...]
    given: str = ""


@dataclass(frozen=True)
class Refused:
    """An image of an export that cannot be used, with the reason."""

    image: str
    why: str


@dataclass(frozen=True)
class Export:
    """Content of an export.

    Attributes:
        images: Usable images; one without regions is listed, but has no drawing.
        refused: Images that cannot be used.
        undrawn: Names of images that are listed without a size and without a drawing.
        notes: Skipped parts, in words.
    """

    images: tuple[Annotated, ...]
    refused: tuple[Refused, ...] = ()
    undrawn: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def names(images: Sequence[Annotated]) -> list[str]:
    """Return all class names in the drawings, sorted."""
    return sorted({region.name for image in images for region in image.regions})


def paint(image: Annotated, ids: Mapping[str, int], background: int = IGNORE) -> NDArray[np.uint8]:
    """Paint the mask of an image.

    Args:
        image: Image with its drawings.
        ids: Class id of every name, 255 to ignore.
        background: Id of pixels without a drawing.

    Returns:
        Mask (height, width) uint8.

    Raises:
        FormatError: A drawing does not fit the image.
    """
    mask = np.full((image.height, image.width), background, np.uint8)
    for region in image.regions:
        try:
            region.paint(mask, ids[region.name])
        except RleError as error:
            raise FormatError(f"{image.image}: a region of {region.name!r}: {error}") from error
    return mask


def check_size(width: object, height: object) -> tuple[int, int]:
    """Check the width and height in a file, and return them as numbers.

    Raises:
        FormatError: They are not a valid size of an image.
    """
    sides = [_whole(side) for side in (width, height)]
    if any(side is None or not 1 <= side <= _LONGEST_SIDE for side in sides):
        raise FormatError(f"the size is {width!r} x {height!r}; sides are 1 to {_LONGEST_SIDE} pixels")
    across, down = (side or 0 for side in sides)
    if across * down > _MOST_PIXELS:
        raise FormatError(f"the size is {width} x {height}: more than {_MOST_PIXELS} pixels")
    return across, down


def position(point: object) -> tuple[float, float]:
    """Check a point ``[x, y]`` in a file, and return it as numbers.

    Raises:
        FormatError: It is not a position in an image.
    """
    if (
        not isinstance(point, (list, tuple))
        or len(point) != 2
        or not all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in point)
        or not all(abs(c) <= _FARTHEST for c in point)
    ):
        raise FormatError(f"a point is {str(point)[:60]}, which is not a position in an image")
    return float(point[0]), float(point[1])


def polygons(rings: Sequence[Sequence[tuple[float, float]]]) -> Paint:
    """Make the painting of outlines in pixels, filled by the even-odd rule: a ring inside another is a hole.

    Coordinates have their origin at the image's upper left corner, so the middle of the first pixel is at
    (0.5, 0.5). A pixel belongs to the polygon when its middle does, to within a tenth of a pixel.

    Raises:
        FormatError: An outline has less than three points, or an invalid point.
    """
    if not rings:
        raise FormatError("a polygon without an outline")
    corners: list[NDArray[np.float64]] = []
    for ring in rings:
        if len(ring) < 3:
            raise FormatError(f"a polygon of {len(ring)} points; it takes three or more")
        if not all(math.isfinite(c) and abs(c) <= _FARTHEST for point in ring for c in point):
            raise FormatError("a polygon has a point that is not a position in an image")
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
        # cv2 fills the pixels on the outline as well: drawn larger, that is only a fraction of a pixel.
        rows = max(1, _BAND_PIXELS // ((x1 - x0) * _ZOOM**2))
        for top in range(y0, y1, rows):
            bottom = min(y1, top + rows)
            large = np.zeros(((bottom - top) * _ZOOM, (x1 - x0) * _ZOOM), np.uint8)
            # cv2 has the middle of the first pixel at (0, 0).
            points = [((ring - (x0, top)) * _ZOOM - 0.5) * (1 << _SHIFT) for ring in corners]
            cv2.fillPoly(large, [np.rint(p).astype(np.int32) for p in points], (1,), cv2.LINE_8, _SHIFT)
            mask[top:bottom, x0:x1][large[_ZOOM // 2 :: _ZOOM, _ZOOM // 2 :: _ZOOM] == 1] = class_id

    return fill


def traced(rings: Sequence[Sequence[tuple[float, float]]]) -> Paint:
    """Make the painting of outlines whose corners are the numbers of outer pixels, which belong to them."""
    corners = [np.asarray(ring, np.int32) for ring in rings]

    def fill(mask: NDArray[np.uint8], class_id: int) -> None:
        import cv2

        for ring in corners:
            cv2.fillPoly(mask, [ring], (class_id,))

    return fill


def traced_pixels(rings: Sequence[Sequence[tuple[float, float]]]) -> float | None:
    """Return the number of pixels in outlines as ``traced`` takes them; None if a corner is no whole number.

    By Pick's theorem it is the area, half of the pixels along the edge, and one.
    """
    if not all(c.is_integer() for ring in rings for point in ring for c in point):
        return None
    total = 0.0
    for ring in rings:
        steps = list(zip(ring, [*ring[1:], ring[0]], strict=True))
        area = abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in steps)) / 2
        edge = sum(math.gcd(int(x1 - x0), int(y1 - y0)) for (x0, y0), (x1, y1) in steps)
        total += area + edge / 2 + 1
    return total


def rectangle(left: float, top: float, right: float, bottom: float) -> Paint:
    """Make the painting of a filled box, with its edges in pixels."""
    if not all(math.isfinite(edge) for edge in (left, top, right, bottom)):
        raise FormatError("a box with an edge that is no number")

    def fill(mask: NDArray[np.uint8], class_id: int) -> None:
        height, width = mask.shape
        rows = slice(_edge(top, height), _edge(bottom, height))
        columns = slice(_edge(left, width), _edge(right, width))
        mask[rows, columns] = class_id

    return fill


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Paint:
    """Make the painting of a filled ellipse, as a polygon of 72 corners."""
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
    """Make the painting of a binary mask, decoded when painted; parts outside of the image are cut off."""

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


def _whole(side: object) -> int | None:
    """Return a whole number that a tool wrote as such, as 480.0 or as text; None for anything else."""
    if isinstance(side, str) and side.isascii() and side.isdigit() and len(side) < 9:
        return int(side)
    if isinstance(side, bool) or not isinstance(side, (int, float)):
        return None
    return int(side) if math.isfinite(side) and side == int(side) else None


def _edge(value: float, limit: int) -> int:
    return min(limit, max(0, math.floor(value + 0.5)))
