"""COCO JSON: polygons, plain RLE and compressed RLE (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    polygons,
    traced,
    traced_pixels,
)

__all__ = ["is_coco", "looks_like", "read", "read_coco"]

#: By how much a fraction may leave the image, and a position the first pixel, after rounding.
_OVER = 0.01
_WHOLE = re.compile(r"0|[1-9][0-9]{0,17}")


def looks_like(file: LabelFile) -> bool:
    """Return whether a file is COCO JSON."""
    return is_coco(file.document)


def read(file: LabelFile) -> Export:
    """Read a COCO file; see ``read_coco``.

    Raises:
        FormatError: The file is not a COCO file.
    """
    return read_coco(file.json())


def is_coco(document: object) -> bool:
    """Return whether a JSON document looks like COCO."""
    return isinstance(document, Mapping) and {"images", "annotations", "categories"} <= document.keys()


def read_coco(document: object) -> Export:
    """Read a COCO document; annotations are painted in its order.

    An image with a bad annotation is refused as a whole: half of its drawings would be a wrong label.

    Raises:
        FormatError: The document is not a COCO document.
    """
    if not is_coco(document):
        raise FormatError("no COCO file: it lacks images, annotations or categories")
    assert isinstance(document, Mapping)
    categories = _by_id(document["categories"], "category")
    images = _by_id(document["images"], "image")
    drawn: dict[object, list[Mapping[str, Any]]] = {}
    fractions = _in_fractions(_objects(document["annotations"], "annotation"))
    between = not fractions and _between_pixels(_objects(document["annotations"], "annotation"))
    unlisted: list[object] = []
    for annotation in _objects(document["annotations"], "annotation"):
        if "segments_info" in annotation:
            raise OtherFormat(
                "it is a COCO panoptic file, whose masks lie in PNG files beside it: export instances "
                '("COCO 1.0" in CVAT, coco_instances in datumaro), or masks as PNG'
            )
        image_id = _key(annotation.get("image_id"))
        if not isinstance(image_id, (int, str)) or image_id not in images:
            unlisted.append(image_id)
            continue
        drawn.setdefault(image_id, []).append(annotation)
    if unlisted and not drawn:
        raise FormatError(f"an annotation is for image {unlisted[0]!r}, which is not listed")
    found: list[Annotated] = []
    undrawn: list[str] = []
    refused: list[Refused] = []
    for key, image in images.items():
        name = base_name(str(image.get("file_name", "")))
        if key not in drawn and name and image.get("width") is None and image.get("height") is None:
            undrawn.append(name)  # Label Studio leaves the sizes of such images out
            continue
        try:
            if not name:
                raise FormatError("it has no file name")
            width, height = check_size(image.get("width"), image.get("height"))
            unit = (width, height) if fractions else (1, 1)
            regions = tuple(
                _region(each, categories, (height, width), unit, between) for each in drawn.get(key, ())
            )
        except FormatError as error:
            refused.append(Refused(name or f"image {key}", str(error)))
        else:
            given = str(image.get("file_name", ""))
            found.append(Annotated(image=name, given=given, width=width, height=height, regions=regions))
    # Who picks some images out of an export often leaves the annotations of all others in.
    notes = [f"{len(unlisted)} annotations are for images that are not listed"] if unlisted else []
    info = document.get("info")
    if isinstance(info, Mapping) and info.get("description") == "coco from ISAT":
        notes.append("ISAT's COCO lacks the layers: what lies on top is chance; take its Pascal VOC masks")
    return Export(tuple(found), tuple(refused), tuple(undrawn), tuple(notes))


def _region(
    annotation: Mapping[str, Any],
    categories: Mapping[object, Mapping[str, Any]],
    size: tuple[int, int],
    unit: tuple[int, int],
    between: bool,
) -> Region:
    key = _key(annotation.get("category_id"))
    category = categories.get(key) if isinstance(key, (int, str)) else None
    if category is None or not isinstance(category.get("name"), str):
        raise FormatError(f"an annotation is of category {key!r}, which has no name")
    name, shape = category["name"], annotation.get("segmentation")
    if isinstance(shape, list) and shape:
        rings = [_ring(numbers, unit) for numbers in _listed(shape)]
        # A ring of one or two points has no area, and tools write such beside others.
        rings = [ring for ring in rings if len(ring) > 2] or rings
        if between:
            return Region(name, polygons([[_from_middles(x, y) for x, y in ring] for ring in rings]))
        area = annotation.get("area")
        if isinstance(area, (int, float)):
            area *= unit[0] * unit[1]
        return Region(name, _rings(rings, area))
    if isinstance(shape, Mapping):
        if shape.get("size") != list(size):
            raise FormatError(f"an RLE of {name!r} has size {shape.get('size')}, its image {list(size)}")
        counts = shape.get("counts")
        if isinstance(counts, str):
            return Region(name, bitmap(lambda: rle.decode_columns(rle.decompress(counts), size)))
        if isinstance(counts, list):
            return Region(name, bitmap(lambda: rle.decode_columns(counts, size)))
    raise FormatError(f"an annotation of {name!r} has no outline, only a box: export the segmentation, too")


def _rings(rings: list[list[tuple[float, float]]], area: object) -> Paint:
    """Make the painting of rings, each of which adds its pixels, unless the area says otherwise.

    COCO's own tools and datumaro add rings up, with corners between pixels. Programs that trace masks write
    the edges of holes, too, and the numbers of the outermost pixels as corners (supervision): the area, if it
    is the number of pixels, tells of both.

    Args:
        rings: Points (x, y) of each ring in pixels.
        area: The annotation's own, in pixels; None or anything else where it says nothing.
    """
    cut = polygons(rings)
    if area is not None and traced_pixels(rings) == area:
        return traced(rings)
    if len(rings) == 1:
        return cut
    parts = [polygons([ring]) for ring in rings]

    def fill(mask: NDArray[np.uint8], class_id: int) -> None:
        added, with_holes = np.zeros_like(mask), np.zeros_like(mask)
        for part in parts:
            part(added, 1)
        cut(with_holes, 1)
        holes = isinstance(area, (int, float)) and (
            abs(np.count_nonzero(with_holes) - area) < abs(np.count_nonzero(added) - area)
        )
        mask[(with_holes if holes else added) == 1] = class_id

    return fill


def _in_fractions(annotations: list[Mapping[str, Any]]) -> bool:
    """Return whether all outlines are in fractions of their image, as Azure Machine Learning writes them.

    In pixels they would all lie within the first one.
    """
    shapes = [shape for each in annotations if isinstance(shape := each.get("segmentation"), list) and shape]
    rings = [numbers for shape in shapes for numbers in _listed(shape) if isinstance(numbers, list)]
    return bool(rings) and all(
        isinstance(number, (int, float)) and -_OVER <= number <= 1 + _OVER
        for ring in rings
        for number in ring
    )


def _between_pixels(annotations: list[Mapping[str, Any]]) -> bool:
    """Return whether each corner of all outlines lies in the middle between two neighbouring pixels.

    Programs that trace masks by marching squares (FiftyOne, pycococreator) write the numbers of pixels where
    COCO has the lines between them, rings of holes among them, and FiftyOne the box's area. One coordinate is
    whole and one a half; in the first row or column -0.5 may stand as 0.
    """
    shapes = [shape for each in annotations if isinstance(shape := each.get("segmentation"), list) and shape]
    across = down = False
    for numbers in (ring for shape in shapes for ring in _listed(shape)):
        if not isinstance(numbers, list) or not all(isinstance(n, (int, float)) for n in numbers):
            return False
        for x, y in zip(numbers[::2], numbers[1::2], strict=False):
            if x % 1 == 0.5 and y % 1 == 0:
                across = True
            elif x % 1 == 0 and y % 1 == 0.5:
                down = True
            elif x % 1 or y % 1 or (x and y):
                return False
    return across and down


def _from_middles(x: float, y: float) -> tuple[float, float]:
    """Return the place of a corner between two pixels, which is told in numbers of pixels."""
    if x % 1 == 0 and y % 1 == 0:  # -0.5, written as 0
        return (x + 0.5 if x else 0.0), (y + 0.5 if y else 0.0)
    return x + 0.5, y + 0.5


def _listed(shape: list[Any]) -> list[Any]:
    """Return the rings of an outline; VIA writes the numbers of a single one without a list around them."""
    return shape if isinstance(shape[0], list) else [shape]


def _ring(numbers: object, unit: tuple[int, int]) -> list[tuple[float, float]]:
    """Return the points of a ring in pixels; ``unit`` is the width and height of what it is measured in."""
    if (
        not isinstance(numbers, list)
        or len(numbers) % 2
        or not all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers)
    ):
        raise FormatError("a polygon is no list of x, y, x, y, ...")
    try:
        across, down = float(unit[0]), float(unit[1])
        return [(x * across, y * down) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
    except OverflowError as error:
        raise FormatError("a polygon has a point that is not a position in an image") from error


def _by_id(entries: object, kind: str) -> dict[object, Mapping[str, Any]]:
    found: dict[object, Mapping[str, Any]] = {}
    for entry in _objects(entries, kind):
        key = _key(entry.get("id"))
        if not isinstance(key, (int, str)) or key in found:
            raise FormatError(f"the {kind} id {key!r} is missing, no number, or given twice")
        found[key] = entry
    return found


def _key(value: object) -> object:
    """Return an id as the whole number that it means, if any.

    Tables with a missing value write 1 as 1.0, and some tools write it as "1" where it is referred to.
    """
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _objects(entries: object, kind: str) -> list[Mapping[str, Any]]:
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise FormatError(f"the {kind} list is no list of objects")
    return entries
