"""Labels from files: which masks a folder or an export holds, and which stored samples they are for.

Everything is read before anything is imported: an unknown class name stops it all, a bad file only itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from dance_ondevice.images.codec import decode_label, encode_png
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.labels import IGNORE, LabelError, check_label
from dance_ondevice.label_formats import regions
from dance_ondevice.label_formats.class_map import ClassMap, suggest
from dance_ondevice.label_formats.reader import read_export

__all__ = ["MANIFEST", "Format", "Mask", "NothingFound", "Target", "Targets", "find", "read_masks"]

Format = Literal["auto", "png", "coco", "cvat", "labelstudio"]

#: What ``samples export`` writes beside its images.
MANIFEST = "manifest.json"
#: Where it expects the masks.
LABELS_FOLDER = "labels"
_EXPORTS = (".json", ".xml")
_LAST_NUMBER = re.compile(r"(\d{1,18})\D*$")


class NothingFound(ValueError):  # noqa: N818 - read as a state
    """A folder without anything to import."""


@dataclass(frozen=True)
class Target:
    """The sample that a label is for, with the (width, height) of its stored image and as captured."""

    sample: str
    stored: tuple[int, int]
    native: tuple[int, int]


@dataclass(frozen=True)
class Mask:
    """One label: the file or image it came from, and the PNG for its sample, or why there is none."""

    file: str
    sample: str | None = None
    png: bytes = b""
    error: str | None = None


class Targets:
    """Finds the sample of a file name in the index."""

    def __init__(self, database: Database, camera: str | None) -> None:
        """``camera``: match by the last number in the name, the sequence number, among its samples."""
        self._database = database
        self._camera = camera

    def find(self, stem: str) -> Target | None:
        """The one sample of this id, or of this sequence number; None when there is not exactly one."""
        columns = "select id, width, height, native_width, native_height from samples"
        rows = list(self._database.query(f"{columns} where id = ?", [stem]))
        number = _LAST_NUMBER.search(stem)
        if not rows and self._camera is not None and number is not None:
            where, values = "camera = ? and seq = ?", [self._camera, int(number[1])]
            rows = list(self._database.query(f"{columns} where {where} limit 2", values))
        if len(rows) != 1:
            return None
        row = rows[0]
        return Target(row["id"], (row["width"], row["height"]), (row["native_width"], row["native_height"]))


def find(path: Path, kind: Format) -> tuple[list[Path], list[Path]]:
    """The PNG masks and the exports that a path means.

    Of a folder that ``samples export`` made, the masks in its ``labels`` folder count; its manifest is none.

    Raises:
        NothingFound: there is nothing of that kind.
    """
    if path.is_file():
        return ([path], []) if _is_png(path) and kind in ("auto", "png") else ([], [path])
    folder = path / LABELS_FOLDER if (path / MANIFEST).is_file() else path
    masks = sorted(file for file in folder.iterdir() if _is_png(file)) if folder.is_dir() else []
    exports = sorted(
        file
        for place in {path, folder}
        if place.is_dir()
        for file in place.iterdir()
        if file.suffix.lower() in _EXPORTS and file.name != MANIFEST
    )
    masks = masks if kind in ("auto", "png") else []
    exports = exports if kind != "png" else []
    if not masks and not exports:
        raise NothingFound(
            f"{folder} holds no .png files"
            + ("" if kind == "png" else ", and no .json or .xml file of a labelling tool is there either")
        )
    return masks, exports


def read_masks(
    masks: Sequence[Path],
    exports: Sequence[Path],
    *,
    kind: Format,
    class_map: ClassMap,
    classes: Sequence[str],
    targets: Targets,
) -> Iterator[Mask]:
    """Every label, painted and mapped, one at a time.

    Args:
        masks: PNGs of class ids, named as their samples.
        exports: of labelling tools.
        kind: format of the exports.
        class_map: names and ids of what is imported.
        classes: of the model.
        targets: finds samples.

    Raises:
        FormatError: an export cannot be read.
        UnknownClasses: an export uses names that are neither classes nor mapped; raised before any label.
    """
    read = [read_export(path, "auto" if kind == "png" else kind) for path in exports]
    ids = class_map.resolve(regions.names([image for export in read for image in export.images]), classes)

    def labels() -> Iterator[Mask]:
        for path in masks:
            yield _one(path.name, path.stem, targets, partial(_mapped, path, class_map, classes))
        for export in read:
            for refused in export.refused:
                yield Mask(refused.image, error=refused.why)
            for image in export.images:
                paint = partial(regions.paint, image, ids, class_map.background)
                yield _one(image.image, Path(image.image).stem, targets, paint)

    return labels()


def unknown_ids(masks: Iterable[Path], class_map: ClassMap, classes: Sequence[str]) -> str | None:
    """The class map that would help where masks hold ids that are no class; None when none does."""
    found: set[int] = set()
    for path in masks:
        try:
            present = np.unique(class_map.apply(decode_label(path.read_bytes())))
        except (OSError, ImageError):
            continue  # refused by name, with the reason
        found |= {int(i) for i in present if len(classes) <= i < IGNORE}
    return suggest(map(str, sorted(found)), classes) if found else None


def manifest(images: Sequence[Mapping[str, object]], classes: Sequence[str]) -> bytes:
    """What ``samples export`` writes: the images and the names and ids of the classes."""
    document = {
        "v": 1,
        "classes": [{"id": index, "name": name} for index, name in enumerate(classes)],
        "ignore": IGNORE,
        "labels": f"{LABELS_FOLDER}/<id>.png: 8-bit single-channel class ids, {IGNORE} where none is known",
        "images": list(images),
    }
    return json.dumps(document, indent=1).encode()


def _one(file: str, stem: str, targets: Targets, read: Callable[[], NDArray[np.uint8]]) -> Mask:
    target = targets.find(stem)
    if target is None:
        return Mask(file, error="no sample of this name, or more than one")
    try:
        mask = read()
        return Mask(file, target.sample, encode_png(_fitted(mask, target)))
    except (OSError, ValueError) as error:  # images, labels and formats each have a ValueError of their own
        return Mask(file, target.sample, error=str(error))


def _mapped(path: Path, class_map: ClassMap, classes: Sequence[str]) -> NDArray[np.uint8]:
    mask = class_map.apply(decode_label(path.read_bytes()))
    check_label(mask, len(classes))
    return mask


def _fitted(mask: NDArray[np.uint8], target: Target) -> NDArray[np.uint8]:
    """The mask at the size of the frame as captured; what was drawn on the stored image is enlarged.

    Raises:
        LabelError: it has the size of neither.
    """
    size = (mask.shape[1], mask.shape[0])
    if size == target.native:
        return mask
    if size != target.stored:
        raise LabelError(
            f"the label is {size[0]}x{size[1]}, the frame {target.native[0]}x{target.native[1]} and its "
            f"stored image {target.stored[0]}x{target.stored[1]}: draw on one of the two"
        )
    import cv2

    return np.asarray(cv2.resize(mask, target.native, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def _is_png(path: Path) -> bool:
    return path.suffix.lower() == ".png"
