"""CVAT's XML, "CVAT for images 1.1": polygons, boxes, ellipses and masks by image name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from xml.etree import ElementTree

from dance_ondevice.label_formats import rle
from dance_ondevice.label_formats.label_file import LabelFile
from dance_ondevice.label_formats.names import base_name
from dance_ondevice.label_formats.regions import (
    Annotated,
    Export,
    FormatError,
    OtherFormat,
    Paint,
    Refused,
    Region,
    bitmap,
    check_size,
    ellipse,
    polygons,
    rectangle,
)

__all__ = ["looks_like", "read", "read_cvat"]

Element = ElementTree.Element


def looks_like(file: LabelFile) -> bool:
    """Return whether a file is XML; only CVAT's XML is supported."""
    return file.data.lstrip()[:1] == b"<"


def read(file: LabelFile) -> Export:
    """Read a file; see ``read_cvat``.

    Raises:
        FormatError: The file is not CVAT's XML.
    """
    return read_cvat(file.data)


def read_cvat(data: bytes) -> Export:
    """Read an export; regions are painted by their z_order, then in the order of the file.

    Shapes without an area (points, lines, tags, skeletons) are skipped and counted. An image with a bad
    shape, a shape of an unknown type, or only shapes without an area is refused as a whole.

    Raises:
        FormatError: The data is not CVAT's XML.
    """
    # Entities can make a small file huge, and CVAT writes none.
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise FormatError("the XML declares a document type or entities, which CVAT does not write")
    try:
        root = ElementTree.fromstring(data)
    # An encoding that Python does not know is a LookupError, one that expat cannot take a ValueError.
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise FormatError(f"no XML: {error}") from error
    if root.tag == "annotation" and root.find("imagesize") is not None:
        raise OtherFormat(
            "it is LabelMe 3.0's XML, whose masks lie in other files, one for each region: export COCO, or "
            '"CVAT for images"'
        )
    if root.tag == "annotation":
        raise OtherFormat("it is Pascal VOC's XML, which holds boxes alone: export masks or polygons")
    if root.tag != "annotations":
        raise OtherFormat(f"no CVAT file: its root is <{root.tag}>, not <annotations>")
    if root.find("track") is not None:
        raise FormatError('it holds tracks of a video: export the task as "CVAT for images 1.1"')
    images: list[Annotated] = []
    refused: list[Refused] = []
    passed: Counter[str] = Counter()
    for image in root.iter("image"):
        name = base_name(image.get("name", ""))
        try:
            if not name:
                raise FormatError("it has no name")
            width, height = check_size(_whole(image, "width"), _whole(image, "height"))
            shapes, flat = _sorted_out(image)
            shapes.sort(key=lambda shape: _number(shape, "z_order", 0.0))
            regions = tuple(Region(shape.get("label", ""), _SHAPES[shape.tag](shape)) for shape in shapes)
        except FormatError as error:
            refused.append(Refused(name or f"image {image.get('id')}", str(error)))
        else:
            given = image.get("name", "")
            images.append(Annotated(image=name, given=given, width=width, height=height, regions=regions))
            passed.update(flat)
    notes = (f"shapes without an area skipped: {_counted(passed)}",) if passed else ()
    return Export(tuple(images), tuple(refused), notes=notes)


def _sorted_out(image: Element) -> tuple[list[Element], Counter[str]]:
    """Return the shapes of an image that can be painted, and the counts of each type without an area."""
    shapes = [shape for shape in image if shape.tag in _SHAPES]
    others = Counter(shape.tag for shape in image if shape.tag not in (*_SHAPES, *_NO_SHAPES))
    unknown = [tag for tag in others if tag not in _FLAT]
    if unknown:
        raise FormatError(
            f"shapes of type {', '.join(sorted(unknown))} cannot be read: draw polygons or masks, or delete "
            "them"
        )
    if others and not shapes:
        raise FormatError(
            f"it holds only shapes without an area ({_counted(others)}): draw polygons or masks"
        )
    return shapes, others


def _counted(types: Counter[str]) -> str:
    return ", ".join(f"{count} {tag}" for tag, count in sorted(types.items()))


def _polygon(shape: Element) -> Paint:
    try:
        pairs = [point.split(",") for point in shape.get("points", "").split(";")]
        ring = [(float(x), float(y)) for x, y in pairs]
    except ValueError as error:
        raise FormatError(f"a polygon's points are not x,y;x,y;...: {error}") from error
    return polygons([ring])


def _box(shape: Element) -> Paint:
    left, top, right, bottom = (_number(shape, name) for name in ("xtl", "ytl", "xbr", "ybr"))
    turn = _turn(shape)
    if not turn:
        return rectangle(left, top, right, bottom)
    # The corners are rotated about the centre.
    angle, x, y = math.radians(turn), (left + right) / 2, (top + bottom) / 2
    corners = [
        (
            x + (cx - x) * math.cos(angle) - (cy - y) * math.sin(angle),
            y + (cx - x) * math.sin(angle) + (cy - y) * math.cos(angle),
        )
        for cx, cy in ((left, top), (right, top), (right, bottom), (left, bottom))
    ]
    return polygons([corners])


def _ellipse(shape: Element) -> Paint:
    x, y, across, down = (_number(shape, name) for name in ("cx", "cy", "rx", "ry"))
    return ellipse(x, y, across, down, _turn(shape))


def _mask(shape: Element) -> Paint:
    left, top = _whole(shape, "left"), _whole(shape, "top")
    width, height = check_size(_whole(shape, "width"), _whole(shape, "height"))
    try:
        counts = [int(run) for run in shape.get("rle", "").split(",")]
    except ValueError as error:
        raise FormatError(f"a mask's rle is no list of numbers: {error}") from error
    return bitmap(lambda: rle.decode_rows(counts, (height, width)), left, top)


_SHAPES: dict[str, Callable[[Element], Paint]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}

#: Shapes without an area.
_FLAT = ("points", "polyline", "skeleton")
_NO_SHAPES = ("tag", "attribute")


def _number(element: Element, name: str, default: float | None = None) -> float:
    text = element.get(name)
    if text is None and default is not None:
        return default
    try:
        return float(text or "")
    except ValueError as error:
        raise FormatError(f"<{element.tag}> has {name}={text!r}, which is no number") from error


def _turn(element: Element) -> float:
    turn = _number(element, "rotation", 0.0)
    if not math.isfinite(turn):
        raise FormatError(f"<{element.tag}> has rotation={element.get('rotation')!r}, which is no angle")
    return turn


def _whole(element: Element, name: str) -> int:
    value = _number(element, name)
    if not value.is_integer() or abs(value) > 1e9:
        raise FormatError(f"<{element.tag}> has {name}={element.get(name)!r}, which is no whole number")
    return int(value)
