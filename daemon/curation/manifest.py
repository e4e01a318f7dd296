"""The manifest that ``samples export`` writes beside its images, and the folder for the masks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from dance_ondevice.images.labels import IGNORE

__all__ = ["LABELS_FOLDER", "MANIFEST", "manifest"]

MANIFEST = "manifest.json"
LABELS_FOLDER = "labels"


def manifest(images: Sequence[Mapping[str, object]], classes: Sequence[str]) -> bytes:
    """The manifest: the images and the names and ids of the classes."""
    document = {
        "v": 1,
        "classes": [{"id": index, "name": name} for index, name in enumerate(classes)],
        "ignore": IGNORE,
        "labels": f"{LABELS_FOLDER}/<id>.png: 8-bit single-channel class ids, {IGNORE} where none is known",
        "images": list(images),
    }
    return json.dumps(document, indent=1).encode()
