"""CamVid on disk, in order of time: with masks of 11 classes, or with the original colour labels of 32.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video: a high-definition ground truth database"
(2009). The 11 classes come in one folder for images and one for labels per split, as the authors of SegNet
published them; the 32 in folders ``<split>_labels`` with a table of the colours.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.datasets.listing import DatasetError, LabelledImage, images_in, in_order, need_folder
from dance_ondevice.images.codec import decode_colour, decode_label
from dance_ondevice.images.headers import ImageError, probe
from dance_ondevice.images.labels import IGNORE, LabelError

__all__ = ["VOID_ID", "LabelColours", "camvid", "camvid32", "read_label"]

#: Id in the published label masks of pixels that belong to none of the 11 classes.
VOID_ID = 11

_NAME = re.compile(r"(?P<sequence>.+)_[^_0-9]?(?P<frame>[0-9]+)")
_COLOURS_FILE = "class_dict.csv"
_VOID_NAME = "void"
_MAX_COLOURS_IN_ERROR = 5


def camvid(
    root: Path, splits: Sequence[str] = ("train",), sequences: Sequence[str] | None = None
) -> list[LabelledImage]:
    """List the images of some splits with their 11-class labels, by sequence and then by time.

    Args:
        root: folder with ``<split>/`` (images named ``<SEQUENCE>_<frame>``) and ``<split>annot/``
            (labels named ``<stem>.png``).
        splits: folders to take, such as ``("train", "val")``.
        sequences: sequences to keep; None keeps all.

    Raises:
        DatasetError: a folder, a label or a wanted sequence is missing, or a name cannot be read.
    """
    found = [item for split in splits for item in _split(root, split, "annot", "")]
    if sequences is not None:
        known = {item.sequence for item in found}
        missing = [name for name in sequences if name not in known]
        if missing:
            raise DatasetError(
                f"no images of {', '.join(missing)} in {root} ({', '.join(splits)}); "
                f"its sequences are {', '.join(sorted(known))}"
            )
        found = [item for item in found if item.sequence in set(sequences)]
    return in_order(found)


def camvid32(root: Path, splits: Sequence[str] = ("train",)) -> list[LabelledImage]:
    """List the images of some splits with their 32-class colour labels, by sequence and then by time.

    Args:
        root: folder with ``<split>/`` (images named ``<SEQUENCE>_<frame>``) and ``<split>_labels/`` (colour
            PNGs named ``<stem>_L.png``), and ``class_dict.csv``, for which see :class:`LabelColours`.
        splits: folders to take, such as ``("train", "val")``.

    Raises:
        DatasetError: a folder or a label is missing, or a name cannot be read.
    """
    return in_order(item for split in splits for item in _split(root, split, "_labels", "_L"))


def read_label(path: Path) -> NDArray[np.uint8]:
    """Read one 11-class label mask with the unlabelled pixels as ``IGNORE``.

    Returns:
        (H, W) uint8, ids 0 to 10 and 255.

    Raises:
        ImageError: the file is no 8-bit single-channel PNG.
        OSError: the file cannot be read.
    """
    label = decode_label(path.read_bytes())
    label[label == VOID_ID] = IGNORE
    return label


@dataclass(frozen=True)
class LabelColours:
    """Colours of the classes in colour labels.

    Attributes:
        classes: Class names in the order of their ids; "Void", one of the 32, is not learnt and has no id.
        rgb: Colours, one for each class.
        void: Colour of ignored pixels; None if the table has no "Void".
    """

    classes: tuple[str, ...]
    rgb: tuple[tuple[int, int, int], ...]
    void: tuple[int, int, int] | None

    @classmethod
    def load(cls, root: Path) -> LabelColours:
        """Read ``root/class_dict.csv``: a line ``name,r,g,b``, then one such line a class.

        Raises:
            DatasetError: no such file, a line that cannot be read, or a colour that two classes share.
        """
        path = root / _COLOURS_FILE
        try:
            lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
        except FileNotFoundError as error:
            raise DatasetError(f"no file {path}: it should hold a line name,r,g,b for each class") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"{path} is no table of name,r,g,b in UTF-8: {error}") from error
        colours: dict[tuple[int, int, int], str] = {}
        for number, line in enumerate(lines[1:], start=2):
            if not line:
                continue
            name, colour = line[0].strip(), _colour(line[1:])
            if not name or colour is None:
                raise DatasetError(f"{path}, line {number}: expected name,r,g,b, found {','.join(line)}")
            if colour in colours:
                raise DatasetError(f"{path}, line {number}: {name} has the colour of {colours[colour]}")
            colours[colour] = name
        if not colours:
            raise DatasetError(f"{path} names no classes")
        learnt = {colour: name for colour, name in colours.items() if name.lower() != _VOID_NAME}
        void = next((colour for colour in colours if colour not in learnt), None)
        return cls(classes=tuple(learnt.values()), rgb=tuple(learnt), void=void)

    def read_label(self, path: Path) -> NDArray[np.uint8]:
        """Read a colour label as ids.

        Returns:
            (H, W) uint8, ids below ``len(classes)`` and 255.

        Raises:
            ImageError: the file is no 8-bit colour PNG.
            LabelError: it holds colours that are not in the table.
            OSError: the file cannot be read.
        """
        data = path.read_bytes()
        info = probe(data)
        if info.format != "png" or info.channels != 3 or info.bit_depth > 8:
            raise ImageError(
                f"{path}: a colour label is an 8-bit colour PNG, "
                f"found {info.format} with {info.channels} channels of {info.bit_depth} bits"
            )
        blue, green, red = (channel.astype(np.int32) for channel in np.moveaxis(decode_colour(data), 2, 0))
        codes = (red << 16) | (green << 8) | blue
        entries = [(_code(rgb), number) for number, rgb in enumerate(self.rgb)]
        if self.void is not None:
            entries.append((_code(self.void), IGNORE))
        known = np.array(sorted(entries), np.int32)
        place = np.minimum(np.searchsorted(known[:, 0], codes), len(known) - 1)
        strange = known[place, 0] != codes
        if strange.any():
            found = [f"({c >> 16}, {c >> 8 & 255}, {c & 255})" for c in np.unique(codes[strange]).tolist()]
            shown = ", ".join(found[:_MAX_COLOURS_IN_ERROR]) + (
                ", ..." if len(found) > _MAX_COLOURS_IN_ERROR else ""
            )
            raise LabelError(
                f"{path}: {int(strange.sum())} pixels have colours not in {_COLOURS_FILE}: {shown}"
            )
        ids: NDArray[np.uint8] = known[place, 1].astype(np.uint8)
        return ids


def _split(root: Path, split: str, labels_suffix: str, label_suffix: str) -> Iterator[LabelledImage]:
    images, labels = root / split, root / f"{split}{labels_suffix}"
    need_folder(images, "the images", split)
    need_folder(labels, "the label masks", split)
    for image in images_in(images, split):
        name = _NAME.fullmatch(image.stem)
        if name is None:
            raise DatasetError(
                f"cannot read sequence and frame from {image}: "
                "a name is <SEQUENCE>_<frame>, such as 0001TP_008520 or 0006R0_f01080"
            )
        label = labels / f"{image.stem}{label_suffix}.png"
        if not label.is_file():
            raise DatasetError(f"{image} has no label mask: expected {label}")
        yield LabelledImage(image=image, label=label, sequence=name["sequence"], frame=int(name["frame"]))


def _colour(cells: Sequence[str]) -> tuple[int, int, int] | None:
    values = [int(cell) for cell in cells if cell.strip().isdecimal()]
    if len(values) != 3 or len(cells) != 3 or max(values) > 255:
        return None
    return values[0], values[1], values[2]


def _code(rgb: tuple[int, int, int]) -> int:
    return rgb[0] << 16 | rgb[1] << 8 | rgb[2]
