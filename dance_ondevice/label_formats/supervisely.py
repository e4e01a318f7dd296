"""Supervisely's JSON, ``ann/IMAGE.jpg.json``: polygons with holes, bitmaps and rectangles of one image."""

from __future__ import annotations

import zlib
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
    polygons,
    position,
    rectangle,
)

__all__ = ["looks_like", "read"]

_FLAT = frozenset({"point", "line", "graph"})
#: Most bytes of an unpacked bitmap: a PNG of a mask is far smaller.
_MOST_BYTES = 64 << 20


def looks_like(file: LabelFile) -> bool:
    """Return whether a file is the JSON of an image, or Supervisely's list of classes or keys beside it."""
    found = file.document
    return isinstance(found, Mapping) and (
        (isinstance(found.get("size"), Mapping) and isinstance(found.get("objects"), list)) or _is_meta(found)
    )


def read(file: LabelFile) -> Export:
    """Read a file; objects are painted in its order. The lists of classes and keys hold no image.

    Points, lines and graphs are skipped and counted. A file with a bad object, or with one of an unknown
    type, is refused.

    Raises:
        FormatError: The file is of another format.
    """
    if not looks_like(file):
        raise FormatError("no Supervisely JSON: it lacks size or objects")
    document = file.json()
    assert isinstance(document, Mapping)
    if _is_meta(document):
        return Export(())
    name = base_name(file.name).removesuffix(".json")
    flat: Counter[str] = Counter()
    try:
        size = document["size"]
        width, height = check_size(size.get("width"), size.get("height"))
        regions = tuple(_regions(document["objects"], flat))
        if flat and not regions:
            raise FormatError("it holds only points and lines, which have no area: draw polygons")
    except FormatError as error:
        return Export((), (Refused(name, str(error)),))
    notes = tuple(f"{name}: shapes without an area skipped: {count} {kind}" for kind, count in flat.items())
    return Export((Annotated(image=name, width=width, height=height, regions=regions),), notes=notes)


def _is_meta(document: Mapping[str, Any]) -> bool:
    """Return whether a document is ``meta.json`` or ``key_id_map.json`` of a project."""
    classes = document.get("classes")
    return (
        isinstance(classes, list)
        and all(isinstance(each, Mapping) and {"title", "shape"} <= each.keys() for each in classes)
    ) or document.keys() == {"tags", "objects", "figures", "videos"}


def _regions(objects: list[Any], flat: Counter[str]) -> list[Region]:
    found = []
    for each in objects:
        if not isinstance(each, Mapping) or not isinstance(each.get("classTitle"), str):
            raise FormatError("an object has no classTitle")
        kind = str(each.get("geometryType"))
        if kind in _FLAT:
            flat[kind] += 1
        else:
            found.append(Region(each["classTitle"], _paint(kind, each)))
    return found


def _paint(kind: str, each: Mapping[str, Any]) -> Paint:
    if kind == "bitmap":
        held = each.get("bitmap")
        if not isinstance(held, Mapping):
            raise FormatError("a bitmap holds no data")
        left, top = position(held.get("origin"))
        return bitmap(lambda: _bitmap(held.get("data")), round(left), round(top))
    points = each.get("points")
    if kind not in ("polygon", "rectangle") or not isinstance(points, Mapping):
        raise FormatError(f"an object of type {kind} cannot be read: draw a polygon or bitmap, or delete it")
    outer = _ring(points.get("exterior"))
    if kind == "polygon":
        inner = points.get("interior") or []
        if not isinstance(inner, list):
            raise FormatError("a polygon's interior is no list of rings")
        return polygons([outer, *map(_ring, inner)])
    if len(outer) != 2:
        raise FormatError(f"a rectangle has {len(outer)} points; it takes two")
    (x0, y0), (x1, y1) = outer
    return rectangle(min(x0, x1) - 0.5, min(y0, y1) - 0.5, max(x0, x1) + 0.5, max(y0, y1) + 0.5)


def _ring(points: object) -> list[tuple[float, float]]:
    """Return the corners of a ring, which the file counts from the middle of the first pixel."""
    if not isinstance(points, list):
        raise FormatError("a ring is no list of points")
    return [(x + 0.5, y + 0.5) for x, y in map(position, points)]


def _bitmap(data: object) -> NDArray[np.bool_]:
    try:
        unpacker = zlib.decompressobj()
        png = unpacker.decompress(embedded(data), _MOST_BYTES)
        pixels = decode_unchanged(png)
    except (ValueError, zlib.error, ImageError) as error:
        raise rle.RleError(f"its bitmap cannot be used: {error}") from error
    return np.asarray(pixels > 0 if pixels.ndim == 2 else pixels[..., -1] > 0)
