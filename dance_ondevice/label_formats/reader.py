"""Which format a file of labels has, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from dance_ondevice.label_formats import coco, cvat, label_studio
from dance_ondevice.label_formats.label_file import LabelFile
from dance_ondevice.label_formats.regions import Export, FormatError, OtherFormat

__all__ = ["FORMATS", "Format", "LabelFormat", "read_bytes", "read_export"]


@dataclass(frozen=True)
class LabelFormat:
    """A format of labels: one file of this package, one row of ``FORMATS``.

    Attributes:
        title: as people call it.
        looks_like: whether a file is of this format, told cheaply.
        read: what the file says; raises ``FormatError`` where it cannot be used.
    """

    title: str
    looks_like: Callable[[LabelFile], bool]
    read: Callable[[LabelFile], Export]


#: Every format by the name that ``labels import --format`` takes, in the order in which they are tried.
FORMATS: Mapping[str, LabelFormat] = {
    "coco": LabelFormat("COCO JSON", coco.looks_like, coco.read),
    "cvat": LabelFormat("CVAT for images XML", cvat.looks_like, cvat.read),
    "labelstudio": LabelFormat("Label Studio JSON", label_studio.looks_like, label_studio.read),
}


#: A key of ``FORMATS``, or ``auto`` to look what a file is.
Format: TypeAlias = str


def read_export(path: Path, kind: Format = "auto") -> Export:
    """Read an export of a labelling tool.

    Args:
        path: the file.
        kind: a key of ``FORMATS``, or ``auto`` to look.

    Raises:
        FormatError: it is not that, or nothing that is known; the text names the file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    return read_bytes(str(path), data, kind)


def read_bytes(name: str, data: bytes, kind: Format = "auto") -> Export:
    """Read what a file holds; see ``read_export``.

    Raises:
        OtherFormat: it is of no known format, or of one that holds no masks.
        FormatError: it cannot be used.
    """
    file = LabelFile(name, data)
    try:
        chosen = FORMATS.get(kind) or next((f for f in FORMATS.values() if f.looks_like(file)), None)
        if chosen is not None:
            return chosen.read(file)
        file.json()  # says where it is broken, if it is
    except FormatError as error:
        raise type(error)(f"{name}: {error}") from error
    except RecursionError as error:
        # What is read without trouble can still be nested too deeply to be shown in a message.
        raise FormatError(f"{name}: its values are nested too deeply") from error
    raise OtherFormat(
        f"{name} is none of {', '.join(f.title for f in FORMATS.values())}: choose one of them for the "
        "export in the labelling tool, or say with --format what it is"
    )
