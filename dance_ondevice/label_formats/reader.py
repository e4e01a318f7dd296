"""Which format a file of labels has, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.label_formats.coco import is_coco, read_coco
from dance_ondevice.label_formats.cvat import read_cvat
from dance_ondevice.label_formats.label_studio import is_label_studio, read_label_studio
from dance_ondevice.label_formats.regions import Export, FormatError

__all__ = ["Format", "read_export"]

Format = Literal["auto", "coco", "cvat", "labelstudio"]


def read_export(path: Path, kind: Format = "auto") -> Export:
    """Read an export of a labelling tool.

    Args:
        path: the file.
        kind: what it is; ``auto`` looks.

    Raises:
        FormatError: it is not that, or nothing that is known; the text names the file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    try:
        if kind == "cvat" or (kind == "auto" and data.lstrip()[:1] == b"<"):
            return read_cvat(data)
        try:
            document = decode(data, object)
        except DocumentError as error:
            raise FormatError(f"no JSON: {error}") from error
        if kind == "coco" or (kind == "auto" and is_coco(document)):
            return read_coco(document)
        if kind == "labelstudio" or (kind == "auto" and is_label_studio(document)):
            return read_label_studio(document)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    except RecursionError as error:
        # What is read without trouble can still be nested too deeply to be shown in a message.
        raise FormatError(f"{path}: its values are nested too deeply") from error
    raise FormatError(
        f"{path}: neither COCO JSON, nor CVAT for images XML, nor a Label Studio JSON export; say "
        "with --format what it is"
    )
