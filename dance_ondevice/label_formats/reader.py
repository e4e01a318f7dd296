"""Reading label files: recognition of the format, and its reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from dance_ondevice.label_formats import coco, cvat, label_studio, labelme, supervisely
from dance_ondevice.label_formats.label_file import LabelFile
from dance_ondevice.label_formats.regions import Export, FormatError, OtherFormat

__all__ = ["FORMATS", "Format", "LabelFormat", "read_bytes"]


@dataclass(frozen=True)
class LabelFormat:
    """A format of labels: one file of this package, one row of ``FORMATS``.

    Attributes:
        title: Name for people.
        looks_like: Function that checks cheaply whether a file has this format.
        read: Function that reads the file; it raises ``FormatError`` if the file cannot be used.
    """

    title: str
    looks_like: Callable[[LabelFile], bool]
    read: Callable[[LabelFile], Export]


#: Every format by the name that ``labels import --format`` takes, in the order in which they are tried.
FORMATS: Mapping[str, LabelFormat] = {
    "coco": LabelFormat("COCO JSON", coco.looks_like, coco.read),
    "cvat": LabelFormat("CVAT for images XML", cvat.looks_like, cvat.read),
    "labelstudio": LabelFormat("Label Studio JSON", label_studio.looks_like, label_studio.read),
    "labelme": LabelFormat("LabelMe JSON", labelme.looks_like, labelme.read),
    "supervisely": LabelFormat("Supervisely JSON", supervisely.looks_like, supervisely.read),
}


#: JSON of tools that is not read, by the keys of its document, or of the first one in it.
_OTHERS: tuple[tuple[str, frozenset[str]], ...] = (
    ("JSON of Label Studio before 1.0", frozenset({"data", "completions"})),
    ("datumaro's JSON", frozenset({"categories", "items"})),
    ("V7 Darwin's JSON", frozenset({"version", "item", "annotations"})),
    ("Labelbox's JSON", frozenset({"data_row", "projects"})),
    ("VGG Image Annotator's JSON", frozenset({"_via_img_metadata"})),
    ("VGG Image Annotator's JSON", frozenset({"filename", "regions"})),
    ("VGG Image Annotator's JSON", frozenset({"project", "attribute", "file", "metadata", "view"})),
    ("Segments.ai's release", frozenset({"name", "dataset", "created_at"})),
    ("Kili's JSON", frozenset({"externalId", "labels"})),
    ("Encord's JSON", frozenset({"data_hash", "data_units"})),
    ("Scale's JSON", frozenset({"task_id", "response"})),
    ("Hasty's JSON", frozenset({"label_classes", "images"})),
    ("SuperAnnotate's JSON", frozenset({"metadata", "instances"})),
    ("BDD100K's JSON", frozenset({"frames", "config"})),
    ("BDD100K's JSON", frozenset({"name", "labels"})),
    ("Mapillary Vistas' polygons", frozenset({"width", "height", "objects"})),
    ("ISAT's JSON", frozenset({"info", "objects"})),
    (
        "JSON of Segment Anything (without classes) or CreateML (boxes)",
        frozenset({"image", "annotations"}),
    ),
    ("SageMaker's manifest", frozenset({"source-ref"})),
    ("GeoJSON", frozenset({"type", "features"})),
)


#: A key of ``FORMATS``, or ``auto`` to recognise the format.
Format: TypeAlias = str


def read_bytes(name: str, data: bytes, kind: Format = "auto") -> Export:
    """Read an export of a labelling tool.

    Args:
        name: Name of the file, for messages.
        data: Its bytes.
        kind: Key of ``FORMATS``, or ``auto`` to recognise the format.

    Raises:
        OtherFormat: The format is unknown, or holds no masks.
        FormatError: The file cannot be used.
    """
    file = LabelFile(name, data)
    try:
        chosen = FORMATS.get(kind) or next((f for f in FORMATS.values() if f.looks_like(file)), None)
        if chosen is not None:
            return chosen.read(file)
        file.json()  # its error says where the JSON is broken
    except FormatError as error:
        raise type(error)(f"{name}: {error}") from error
    except RecursionError as error:
        # A document that can be read may still be nested too deeply to be shown in a message.
        raise FormatError(f"{name}: its values are nested too deeply") from error
    if other := _other_tool(file.document):
        raise OtherFormat(
            f"{name} is {other}, which is not read: export COCO with outlines, or PNG masks, from that tool"
        )
    raise OtherFormat(
        f"{name} is none of {', '.join(f.title for f in FORMATS.values())}: choose one of them for the "
        "export in the labelling tool, or say with --format what it is"
    )


def _other_tool(document: object) -> str:
    """Return the name of another tool's JSON; "" where it is not known."""
    inside = document.values() if isinstance(document, Mapping) else document
    first = next(iter(inside), None) if isinstance(inside, Iterable) else None
    found = [each.keys() for each in (document, first) if isinstance(each, Mapping)]
    return next((title for title, keys in _OTHERS if any(keys <= known for known in found)), "")
