"""LabelMe's and X-AnyLabeling's JSON, one file for each image, and the polygons of Cityscapes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images.codec import decode_unchanged
from dance_ondevice.images.headers import ImageError
from dance_ondevice.label_formats import rle
from dance_ondevice.label_formats.label_file import LabelFile, embedded
from dance_ondevice.label_formats.names import base_name
from dance_ondevice.label_formats.regions import (
    Annotated,
    Export,
    FormatError,
    Paint,
    Refused,
    Region,
    bitmap,
    check_size,
    ellipse,
    polygons,
    position,
    rectangle,
)

__all__ = ["looks_like", "read"]

#: Shapes without an area.
_FLAT = frozenset({"point", "points", "line", "linestrip"})
#: Shapes given by their corners; the last two are X-AnyLabeling's, whose rectangles have four as well.
_CORNERS = ("polygon", "oriented_rectangle", "rotation", "quadrilateral")
_CITYSCAPES = "_gtFine_polygons.json", "_gtCoarse_polygons.json", "_polygons.json"


def looks_like(file: LabelFile) -> bool:
    """Return whether a file is LabelMe's JSON, or holds the polygons of a Cityscapes image."""
    found = file.document
    return isinstance(found, Mapping) and (
        {"shapes", "imagePath"} <= found.keys() or {"imgHeight", "imgWidth", "objects"} <= found.keys()
    )


def read(file: LabelFile) -> Export:
    """Read a file; shapes are painted in its order.

    Shapes without an area (points, lines) are skipped and counted. A file with a bad shape, or one of an
    unknown type, is refused.

    Raises:
        FormatError: The file is of another format.
    """
    if not looks_like(file):
        raise FormatError("no LabelMe JSON: it lacks shapes or imagePath")
    document = file.json()
    assert isinstance(document, Mapping)
    name = _image_name(file.name, document)
    try:
        image, flat = _labelme(name, document) if "shapes" in document else _cityscapes(name, document)
    except FormatError as error:
        return Export((), (Refused(name, str(error)),))
    notes = tuple(f"{name}: shapes without an area skipped: {count} {kind}" for kind, count in flat.items())
    return Export((image,), notes=notes)


def _image_name(file: str, document: Mapping[str, Any]) -> str:
    """Return the name of the image: that in the file if there is one, else the file's own."""
    path = document.get("imagePath")
    own = base_name(file)
    for ending in _CITYSCAPES:
        own = own.removesuffix(ending)
    return base_name(path) if isinstance(path, str) and base_name(path) else own.removesuffix(".json")


def _labelme(name: str, document: Mapping[str, Any]) -> tuple[Annotated, Counter[str]]:
    width, height = check_size(document.get("imageWidth"), document.get("imageHeight"))
    regions: list[Region] = []
    flat: Counter[str] = Counter()
    for shape in _objects(document["shapes"], "shapes"):
        kind = shape.get("shape_type") or "polygon"
        if kind in _FLAT:
            flat[kind] += 1
        else:
            regions.append(Region(_label(shape), _paint(kind, shape)))
    if flat and not regions:
        raise FormatError("it holds only points and lines, which have no area: draw polygons")
    return Annotated(image=name, width=width, height=height, regions=tuple(regions)), flat


def _cityscapes(name: str, document: Mapping[str, Any]) -> tuple[Annotated, Counter[str]]:
    width, height = check_size(document["imgWidth"], document["imgHeight"])
    found = [each for each in _objects(document["objects"], "objects") if not each.get("deleted")]
    regions = tuple(Region(_label(each), polygons([_points(each.get("polygon"))])) for each in found)
    return Annotated(image=name, width=width, height=height, regions=regions), Counter()


def _paint(kind: str, shape: Mapping[str, Any]) -> Paint:
    points = _points(shape.get("points"))
    if kind in _CORNERS or (kind == "rectangle" and len(points) == 4):
        return polygons([points])
    if kind in ("rectangle", "circle", "mask"):
        if len(points) != 2:
            raise FormatError(f"a {kind} has {len(points)} points; it takes two")
        (x0, y0), (x1, y1) = points
        if kind == "circle":  # its middle, and a point on its edge
            radius = math.dist(*points)
            return ellipse(x0, y0, radius, radius)
        left, top = min(x0, x1), min(y0, y1)
        if kind == "rectangle":
            return rectangle(left, top, max(x0, x1), max(y0, y1))
        data = shape.get("mask")
        return bitmap(lambda: _mask(data), round(left), round(top))
    raise FormatError(f"a shape of type {kind!r} cannot be read: draw a polygon, or delete it")


def _mask(data: object) -> NDArray[np.bool_]:
    try:
        pixels = decode_unchanged(embedded(data))
    except (ValueError, ImageError) as error:
        raise rle.RleError(f"its mask cannot be used: {error}") from error
    return np.asarray(pixels > 0 if pixels.ndim == 2 else (pixels[..., :3] > 0).any(axis=2))


def _label(shape: Mapping[str, Any]) -> str:
    label = shape.get("label")
    if not isinstance(label, str) or not label:
        raise FormatError(f"a shape has the label {label!r}, which is no name")
    return label


def _points(points: object) -> list[tuple[float, float]]:
    if not isinstance(points, list):
        raise FormatError("a shape has no list of points")
    return [position(point) for point in points]


def _objects(entries: object, key: str) -> list[Mapping[str, Any]]:
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise FormatError(f"its {key} are no list of objects")
    return entries
