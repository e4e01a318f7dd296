"""What every reader of labelled images has in common: the value it lists, its error, and finding files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.files import write_whole
from dance_ondevice.images.codec import encode_png

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


class DatasetError(ValueError):
    """A folder that is not laid out as the reader expects."""


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """One image file and its label mask.

    Attributes:
        image: JPEG or PNG.
        label: PNG of the same size, in the data set's own coding: its ``read_label`` turns it into ids.
        sequence: the drive it was filmed on, such as ``0001TP``.
        frame: its number within the sequence; grows with time.
    """

    image: Path
    label: Path
    sequence: str
    frame: int


ReadLabel = Callable[[Path], NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set in a folder.

    Attributes:
        name: the one that the command line knows it by.
        classes: names in the order of their ids.
        images: lists the labelled images of some splits, by sequence and then by time.
        read_label: reads a label file as (H, W) uint8 ids below ``len(classes)``, 255 = ignore.
    """

    name: str
    classes: tuple[str, ...]
    images: Callable[[Sequence[str]], list[LabelledImage]]
    read_label: ReadLabel


def images_in(folder: Path, split: str) -> list[Path]:
    """The image files of a folder, by name.

    Raises:
        DatasetError: there is no such folder, or no image in it.
    """
    need_folder(folder, "the images", split)
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DatasetError(f"no .jpg, .jpeg or .png images in {folder}")
    return found


def need_folder(folder: Path, content: str, split: str) -> None:
    """Make sure that a folder is there.

    Raises:
        DatasetError: it is not; says what it should hold.
    """
    if not folder.is_dir():
        raise DatasetError(f"no folder {folder}: it should hold {content} of the split {split!r}")


def in_order(found: Iterable[LabelledImage]) -> list[LabelledImage]:
    """By sequence, then by time."""
    return sorted(found, key=lambda item: (item.sequence, item.frame, item.image.name))


def with_plain_labels(
    items: Sequence[LabelledImage], read_label: ReadLabel, folder: Path
) -> list[LabelledImage]:
    """Write each label as a PNG of plain ids, which training and evaluation can read.

    Args:
        items: of one data set.
        read_label: that data set's.
        folder: for the PNGs, made where missing; a PNG that is there already is kept. Several processes
            may share it.

    Returns:
        The items with the written labels, in the same order.

    Raises:
        ValueError: a label that cannot be read, or two of the same name.
        OSError: a file cannot be read or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources: dict[Path, Path] = {}
    plain = []
    for item in items:
        target = folder / f"{item.label.stem}.png"
        plain.append(replace(item, label=target))
        if sources.setdefault(target, item.label) != item.label:
            raise ValueError(f"{item.label} and {sources[target]} would share {target}")
        if not target.exists():
            write_whole(target, encode_png(read_label(item.label)))
    return plain
