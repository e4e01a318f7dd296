"""Label Studio's JSON export: polygons, brushes, bitmasks, rectangles and ellipses."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images.codec import decode_unchanged
from dance_ondevice.images.headers import ImageError
from dance_ondevice.label_formats import rle
from dance_ondevice.label_formats.label_file import LabelFile
from dance_ondevice.label_formats.names import base_name, looks_like_image, without_upload
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

__all__ = ["is_label_studio", "looks_like", "read", "read_label_studio"]

#: Types of results that are not drawings, but statements about the image, a region or a pair of regions.
_NO_DRAWINGS = frozenset(
    {"choices", "textarea", "rating", "number", "datetime", "taxonomy", "ranker", "pairwise", "relation"}
)
#: Shapes without an area: points, such as those that people give Segment Anything to draw by.
_FLAT = frozenset({"keypoint", "keypointlabels"})
_DATA_URL = "data:image/png;base64,"


def looks_like(file: LabelFile) -> bool:
    """Return whether a file is a task or a list of Label Studio's tasks, in either of its two JSON forms."""
    document = file.document
    return is_label_studio(document) or (
        isinstance(document, list)
        and bool(document)
        and all(
            isinstance(task, Mapping) and {"annotation_id", "annotator"} & task.keys() for task in document
        )
    )


def read(file: LabelFile) -> Export:
    """Read a file; see ``read_label_studio``.

    Raises:
        FormatError: The file is not Label Studio's, or in its short form.
    """
    return read_label_studio(file.json())


def is_label_studio(document: object) -> bool:
    """Return whether a JSON document looks like a Label Studio export (its full form, not "JSON-MIN")."""
    return _tasks(document) is not None


def _tasks(document: object) -> list[Mapping[str, Any]] | None:
    """Return the tasks of a document: a list of them, one alone, or one annotation of a target storage."""
    if isinstance(document, Mapping):
        task = document.get("task")
        if isinstance(task, Mapping) and "data" in task and "result" in document:
            return [{**task, "annotations": [document]}]
        document = [document]
    if not isinstance(document, list) or not document:
        return None
    if not all(isinstance(task, Mapping) and "data" in task and "annotations" in task for task in document):
        return None
    return document


def read_label_studio(document: object) -> Export:
    """Read an export; of a task's annotations the last one with a drawing is used that was not cancelled.

    One that is marked as ground truth goes before the others. Tasks without an annotation, or without a
    drawing, count as undrawn. Points have no area and are skipped and counted; a task with nothing else is
    refused. A task with a bad region, with a region of an unknown type, or with drawings on
    several images or on a turned one, is refused as a whole.

    Raises:
        FormatError: The document is not such an export.
    """
    tasks = _tasks(document)
    if tasks is None:
        raise FormatError(
            'no Label Studio export: choose "JSON" there, not "JSON-MIN": it lists tasks with data and '
            "annotations"
        )
    images: list[Annotated] = []
    refused: list[Refused] = []
    undrawn: list[str] = []
    predicted = several = points = 0
    for number, task in enumerate(tasks):
        name = f"task {task.get('id', number)}"
        try:
            annotation = _annotation(task)
            given, uploaded = _file_name(task, annotation or {})
            name = (without_upload(given) if uploaded else given) or name
            image = None if annotation is None else _annotated(name, given, annotation)
            points += len(_flat(_results(annotation or {})))
            several += len(_valid(task)) > 1
        except FormatError as error:
            refused.append(Refused(name, str(error)))
            continue
        if image is not None:
            images.append(image)
        else:
            undrawn.append(name)
            predicted += bool(task.get("predictions"))
    notes = []
    if predicted:
        notes.append(
            f"{predicted} tasks hold only predictions, which are not used: accept them in Label Studio "
            "and export again"
        )
    if several:
        notes.append(
            f"{several} tasks have several annotations, of which the one marked as ground truth counts, else "
            "the last with a drawing"
        )
    if points:
        notes.append(f"shapes without an area skipped: {points} keypoint")
    return Export(tuple(images), tuple(refused), tuple(undrawn), tuple(notes))


@dataclass
class _Drawing:
    """One region, joined from the results with its id: the shape from one of them, the class from any."""

    shape: str = ""
    value: Mapping[str, Any] = field(default_factory=dict)
    labels: list[object] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)


def _annotated(name: str, given: str, annotation: Mapping[str, Any]) -> Annotated | None:
    """Return the drawings of a task; None without any."""
    drawings = _drawings(annotation)
    if not drawings:
        return None
    sizes = {drawing.size for drawing in drawings}
    if len(sizes) > 1:
        raise FormatError(f"its regions say that the image is {' and '.join(map(str, sorted(sizes)))}")
    regions: list[Region] = []
    for drawing in drawings:
        if not drawing.labels:
            raise FormatError(
                f"a region of type {drawing.shape} has no class: give it one, or draw with "
                f"<{drawing.shape.capitalize()}Labels>"
            )
        if len(drawing.labels) != 1 or not isinstance(drawing.labels[0], str):
            raise FormatError(f"a region has the labels {drawing.labels!r}; it takes exactly one")
        regions.append(Region(drawing.labels[0], _paint(drawing)))
    ((width, height),) = sizes
    return Annotated(image=name, given=given, width=width, height=height, regions=tuple(regions))


def _drawings(annotation: Mapping[str, Any]) -> list[_Drawing]:
    """Return the regions in their order; results of a shape's tag and of ``<Labels>`` are joined by id."""
    results = annotation.get("result")
    if not isinstance(results, list) or not all(isinstance(each, Mapping) for each in results):
        raise FormatError("an annotation's result is no list of objects")
    _check_canvas(results)
    found: dict[object, _Drawing] = {}
    points = _flat(results)
    named = {key for each in points if isinstance(key := each.get("id"), str) and key}
    for number, result in enumerate(results):
        kind, key = str(result.get("type")), result.get("id")
        if kind in _NO_DRAWINGS or kind in _FLAT or (kind == "labels" and key in named):
            continue
        shape = kind.removesuffix("labels")
        value = result.get("value")
        if kind != "labels" and shape not in _PAINTERS:
            raise FormatError(
                f"a region is of type {kind}, which cannot be read; known are {', '.join(_PAINTERS)}, with "
                "their labels: draw it with one of these, or delete it"
            )
        if not isinstance(value, Mapping):
            raise FormatError(f"a region of type {kind} has no value")
        drawing = found.setdefault(key if isinstance(key, str) and key else number, _Drawing())
        drawing.size = check_size(result.get("original_width"), result.get("original_height"))
        if shape:
            drawing.shape, drawing.value = shape, value
        if kind.endswith("labels"):
            labels = value.get(kind)
            drawing.labels += labels if isinstance(labels, list) else [labels]
    for drawing in found.values():
        if not drawing.shape:
            raise FormatError("a region of type labels has no shape: no shape has its id")
    if points and not found:
        raise FormatError("it holds only points, which have no area: draw polygons or masks")
    return list(found.values())


def _flat(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the results that are shapes without an area."""
    return [each for each in results if str(each.get("type")) in _FLAT]


def _check_canvas(results: Sequence[Mapping[str, Any]]) -> None:
    """Check that all drawings are on one image, which nobody turned.

    Raises:
        FormatError: They are not.
    """
    drawn = [each for each in results if str(each.get("type")) not in _NO_DRAWINGS]
    for key, what in (("to_name", "images"), ("item_index", "pages")):
        canvases = {str(each[key]) for each in drawn if each.get(key) is not None}
        if len(canvases) > 1:
            raise FormatError(
                f"its regions are drawn on several {what} of the task ({', '.join(sorted(canvases))}), and "
                "the export does not say which file each is: give every image a task of its own"
            )
    turned = [turn for each in drawn if (turn := each.get("image_rotation")) not in (None, 0)]
    if turned:
        raise FormatError(
            f"it was drawn on the image turned by {str(turned[0])[:20]} degrees: turn it back in Label "
            "Studio, and submit again"
        )


def _paint(drawing: _Drawing) -> Paint:
    try:
        return _PAINTERS[drawing.shape](drawing.value, drawing.size)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"a region of type {drawing.shape} lacks a number: {error!r}") from error


def _polygon(value: Mapping[str, Any], size: tuple[int, int]) -> Paint:
    return polygons([[(x / 100 * size[0], y / 100 * size[1]) for x, y in value["points"]]])


def _brush(value: Mapping[str, Any], size: tuple[int, int]) -> Paint:
    data: Sequence[int] = value["rle"]
    if value.get("format", "rle") != "rle" or not isinstance(data, list):
        raise FormatError("a brush region is not in the format rle")
    return bitmap(lambda: rle.decode_brush(data, size[::-1]))


def _bitmask(value: Mapping[str, Any], size: tuple[int, int]) -> Paint:
    url = value["imageDataURL"]
    if not isinstance(url, str) or not url.startswith(_DATA_URL):
        raise FormatError(f"a bitmask region holds no image that begins with {_DATA_URL}")

    def decode() -> NDArray[np.bool_]:
        try:
            drawn = _opaque(decode_unchanged(base64.b64decode(url[len(_DATA_URL) :], validate=True)))
        except (binascii.Error, ImageError) as error:
            raise rle.RleError(f"the bitmask's image cannot be used: {error}") from error
        if drawn.shape != size[::-1]:
            raise rle.RleError(
                f"the bitmask is {drawn.shape[1]}x{drawn.shape[0]}, its image {size[0]}x{size[1]}"
            )
        return drawn

    return bitmap(decode)


def _opaque(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the drawn pixels: the editor draws opaque black; an image without transparency is a mask."""
    if pixels.ndim == 2:
        return np.asarray(pixels > 0)
    bright = np.asarray((pixels[..., :3] > 0).any(axis=2))
    if pixels.shape[2] == 3:
        return bright
    alpha = np.asarray(pixels[..., 3] > 0)
    return bright if alpha.all() and bright.any() else alpha


def _ellipse(value: Mapping[str, Any], size: tuple[int, int]) -> Paint:
    width, height = size
    return ellipse(
        value["x"] / 100 * width,
        value["y"] / 100 * height,
        value["radiusX"] / 100 * width,
        value["radiusY"] / 100 * height,
        float(value.get("rotation") or 0.0),
    )


def _rectangle(value: Mapping[str, Any], size: tuple[int, int]) -> Paint:
    x, y = value["x"] / 100 * size[0], value["y"] / 100 * size[1]
    across, down = value["width"] / 100 * size[0], value["height"] / 100 * size[1]
    turn = math.radians(float(value.get("rotation") or 0.0))
    if not turn:
        return rectangle(x, y, x + across, y + down)
    # It is turned in pixels, about the corner that x and y name.
    cos, sin = math.cos(turn), math.sin(turn)
    corners = ((0.0, 0.0), (across, 0.0), (across, down), (0.0, down))
    return polygons([[(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in corners]])


_PAINTERS: Mapping[str, Callable[[Mapping[str, Any], tuple[int, int]], Paint]] = {
    "polygon": _polygon,
    "brush": _brush,
    "bitmask": _bitmask,
    "rectangle": _rectangle,
    "ellipse": _ellipse,
}


def _annotation(task: Mapping[str, Any]) -> Mapping[str, Any] | None:
    valid = _valid(task)
    # Whoever submits without drawing takes nobody's drawing away.
    drawn = [each for each in valid if _draws(each.get("result"))] or valid
    chosen = [each for each in valid if each.get("ground_truth")] or drawn
    return chosen[-1] if chosen else None


def _draws(results: object) -> bool:
    """Whether a drawing is among the results of an annotation, and not choices, points or texts alone."""
    if not isinstance(results, list):
        return bool(results)  # refused, where it is read
    kinds = (str(each.get("type")) if isinstance(each, Mapping) else "" for each in results)
    return any(kind not in _NO_DRAWINGS and kind not in _FLAT and kind != "labels" for kind in kinds)


def _valid(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the annotations of a task that were not cancelled."""
    annotations = task["annotations"]
    if not isinstance(annotations, list) or not all(isinstance(each, Mapping) for each in annotations):
        raise FormatError("its annotations are no list of objects")
    return [each for each in annotations if not each.get("was_cancelled")]


def _file_name(task: Mapping[str, Any], annotation: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the image's name, and whether it is an upload to Label Studio.

    The name is in the data that is called as the image that was drawn on, or image; else in that which ends
    like an image, else in what the task says of its upload, else in the first text.

    Raises:
        FormatError: Several end like an image, and nothing says which one was drawn on.
    """
    data = task["data"]
    if not isinstance(data, Mapping):
        raise FormatError("its data is no object")
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    texts |= _drawn_page(data, annotation)
    try:
        named = {key: (_of_address(value), "/upload/" in value) for key, value in texts.items()}
    except ValueError as error:
        raise FormatError(f"its image is no address: {error}") from error
    results = _results(annotation)
    # Older versions also write the data's own key, as $key.
    given = [text.removeprefix("$") for key in ("source", "to_name") for text in _texts(results, key)[:1]]
    first = [named.pop(key, ("", False)) for key in (*given, "image")]
    upload = task.get("file_upload")
    last = (base_name(upload), True) if isinstance(upload, str) else ("", False)
    ordered = [*first, *named.values()]
    others = {name for name, _ in named.values() if looks_like_image(name)}
    if results and len(others) > 1 and not any(name for name, _ in first):
        raise FormatError(
            f"its data has several images ({', '.join(sorted(others))}), and nothing says which one was "
            'drawn on: call the <Image> tag as its data, as in name="photo" value="$photo", and export again'
        )
    images = [each for each in (*ordered, last) if looks_like_image(each[0])]
    return next(iter([*images, *(each for each in ordered if each[0])]), ("", False))


def _drawn_page(data: Mapping[str, Any], annotation: Mapping[str, Any]) -> dict[str, str]:
    """Return, of data with a list of pages, the page that was drawn on."""
    pages = {int(n) for each in _results(annotation) if isinstance(n := each.get("item_index"), int)}
    page = pages.pop() if len(pages) == 1 else 0
    return {
        key: value[page]
        for key, value in data.items()
        if isinstance(value, list) and 0 <= page < len(value) and isinstance(value[page], str)
    }


def _results(annotation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    results = annotation.get("result")
    return [each for each in results if isinstance(each, Mapping)] if isinstance(results, list) else []


def _texts(results: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    return [text for each in results if isinstance(text := each.get(key), str)]


def _of_address(address: str) -> str:
    """Return the file's name in an address: that of the path, unless only the query names an image."""
    if address.startswith("data:"):
        return ""  # the image itself
    url = urlsplit(address)
    if looks_like_image(url.path):
        return base_name(unquote(url.path))
    # Local storage puts the path into the query: /data/local-files/?d=folder/name.jpg
    query = parse_qs(url.query)
    values = [value for given in query.values() for value in given]
    values += [_unquoted(value) for value in query.get("fileuri", [])]
    inside = [*(value for value in values if looks_like_image(value)), *query.get("d", [])]
    return base_name(inside[0] if inside else unquote(url.path))


def _unquoted(address: str) -> str:
    """Return the address in a bucket for which the server's own stands, as base64; "" if it is none."""
    try:
        return base64.b64decode(address + "=" * (-len(address) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:  # not base64, or not text in it
        return ""
