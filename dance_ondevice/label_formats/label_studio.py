"""Label Studio's JSON export: polygons, brush masks, rectangles and ellipses, in percent of the image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from dance_ondevice.label_formats import rle
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
    rectangle,
)

__all__ = ["is_label_studio", "read_label_studio"]

#: What an upload puts before a file's name.
_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)")
_KINDS = ("polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels")


def is_label_studio(document: object) -> bool:
    """Whether a JSON document looks like a Label Studio export (its full form, not "JSON-MIN")."""
    return (
        isinstance(document, list)
        and bool(document)
        and all(isinstance(task, Mapping) and "data" in task and "annotations" in task for task in document)
    )


def read_label_studio(document: object) -> Export:
    """Read an export; of a task's annotations the last one that was not cancelled counts.

    Tasks without one are passed over: nobody has labelled them. A task with a bad region is refused whole.

    Raises:
        FormatError: it is no such export.
    """
    if not is_label_studio(document):
        raise FormatError(
            'no Label Studio export: choose "JSON" there, which lists tasks with data and annotations'
        )
    assert isinstance(document, list)
    images: list[Annotated] = []
    refused: list[Refused] = []
    for number, task in enumerate(document):
        name = f"task {task.get('id', number)}"
        try:
            name = _file_name(task) or name
            annotation = _annotation(task)
            if annotation is not None:
                images.append(_annotated(name, annotation))
        except FormatError as error:
            refused.append(Refused(name, str(error)))
    return Export(tuple(images), tuple(refused))


def _annotated(name: str, annotation: Mapping[str, Any]) -> Annotated:
    size: tuple[int, int] | None = None
    regions: list[Region] = []
    for result in _results(annotation):
        found = check_size(result.get("original_width"), result.get("original_height"))
        if size is not None and found != size:
            raise FormatError(f"its regions say that the image is {size} and {found}")
        size = found
        kind = result["type"]
        value = result.get("value")
        if not isinstance(value, Mapping):
            raise FormatError(f"a region of {kind} has no value")
        labels = value.get(kind)
        if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
            raise FormatError(f"a region has the labels {labels!r}; it takes exactly one")
        regions.append(Region(labels[0], _paint(kind, value, found)))
    if size is None:
        raise FormatError("it has no region, and so no size: delete its annotation or draw one")
    return Annotated(image=name, width=size[0], height=size[1], regions=tuple(regions))


def _paint(kind: str, value: Mapping[str, Any], size: tuple[int, int]) -> Paint:
    width, height = size
    try:
        if kind == "polygonlabels":
            return polygons([[(x / 100 * width, y / 100 * height) for x, y in value["points"]]])
        if kind == "brushlabels":
            data = value["rle"]
            if value.get("format", "rle") != "rle" or not isinstance(data, list):
                raise FormatError("a brush region is not in the format rle")
            return bitmap(lambda: rle.decode_brush(data, (height, width)))
        x, y = value["x"] / 100 * width, value["y"] / 100 * height
        turn = float(value.get("rotation") or 0.0)
        if kind == "ellipselabels":
            return ellipse(x, y, value["radiusX"] / 100 * width, value["radiusY"] / 100 * height, turn)
        if turn:
            raise FormatError("a rectangle is turned: draw it as a polygon")
        return rectangle(x, y, x + value["width"] / 100 * width, y + value["height"] / 100 * height)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"a region of {kind} lacks a number: {error!r}") from error


def _annotation(task: Mapping[str, Any]) -> Mapping[str, Any] | None:
    annotations = task["annotations"]
    if not isinstance(annotations, list) or not all(isinstance(each, Mapping) for each in annotations):
        raise FormatError("its annotations are no list of objects")
    valid = [each for each in annotations if not each.get("was_cancelled")]
    return valid[-1] if valid else None


def _results(annotation: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    results = annotation.get("result")
    if not isinstance(results, list) or not all(isinstance(each, Mapping) for each in results):
        raise FormatError("an annotation's result is no list of objects")
    return (each for each in results if each.get("type") in _KINDS)


def _file_name(task: Mapping[str, Any]) -> str:
    """The image's name as it was before the upload: of the task's only text, or of the one called image."""
    data = task["data"]
    if not isinstance(data, Mapping):
        raise FormatError("its data is no object")
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    source = texts.get("image") or next(iter(texts.values()), "")
    try:
        url = urlsplit(source)
    except ValueError as error:
        raise FormatError(f"its image is no address: {error}") from error
    # Local storage puts the path into the query: /data/local-files/?d=folder/name.jpg
    path = parse_qs(url.query).get("d", [url.path])[0]
    name = PurePosixPath(unquote(path)).name
    return _UPLOAD_PREFIX.sub("", name, count=1)
