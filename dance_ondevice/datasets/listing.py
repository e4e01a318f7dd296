"""Common parts of the readers of labelled images: the listed value, the error, and finding files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.files import write_whole
from dance_ondevice.images.codec import decode_label, encode_label
from dance_ondevice.images.labels import LabelError, check_label

_LAST_NUMBER = re.compile(r"(.*?)([0-9]{1,18})[^0-9]*")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


class DatasetError(ValueError):
    """Error: a folder does not have the layout that the reader expects."""


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
        name: Name on the command line.
        classes: Class names in the order of their ids.
        images: Function that lists the labelled images of some splits, by sequence and then by time.
        read_label: Function that reads a label file as (H, W) uint8 ids below ``len(classes)``, 255 = ignore.
        void: Ids beside 255 that mean "unlabelled", if label files can be used for training unchanged; None
            if ``read_label`` must translate them.
    """

    name: str
    classes: tuple[str, ...]
    images: Callable[[Sequence[str]], list[LabelledImage]]
    read_label: ReadLabel
    void: tuple[int, ...] | None = None


def images_in(folder: Path, split: str) -> list[Path]:
    """List the image files of a folder, by name.

    Raises:
        DatasetError: There is no such folder, or no image in it.
    """
    need_folder(folder, "the images", split)
    found = sorted(path for path in folder.iterdir() if is_image(path))
    if not found:
        raise DatasetError(f"no .jpg, .jpeg or .png images in {folder}")
    return found


def is_image(path: Path) -> bool:
    """Return whether a file's name is an image's.

    Hidden ones are none: macOS writes ``._x.jpg`` beside each ``x.jpg`` on disks of other systems.
    """
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def need_folder(folder: Path, content: str, split: str) -> None:
    """Check that a folder exists.

    Raises:
        DatasetError: It does not exist; the message says what it should hold.
    """
    if not folder.is_dir():
        raise DatasetError(f"no folder {folder}: it should hold {content} of the split {split!r}")


def read_plain(path: Path, n_classes: int) -> NDArray[np.uint8]:
    """Read a label file of plain class ids: (H, W) uint8, ids below ``n_classes`` and 255.

    Raises:
        ImageError: the file is no 8-bit single-channel PNG.
        LabelError: it holds other ids.
        OSError: the file cannot be read.
    """
    label = decode_label(path.read_bytes())
    try:
        check_label(label, n_classes)
    except LabelError as error:
        raise LabelError(f"{path}: {error}") from error
    return label


def in_folders(images: Path, labels: Path) -> tuple[list[LabelledImage], list[Path]]:
    """List the images of one folder that have a label of the same name in another, by name.

    Folders below are read as well: the label of ``north/a.jpg`` is ``north/a.png``. A sequence is the part
    of a name before its last number, and the frame is that number; each image without a number is a
    sequence. Labels may lie among the images, or in a folder below them.

    Args:
        images: ``<name>.jpg`` or ``.png``.
        labels: ``<name>.png``.

    Returns:
        The labelled images, and those without a label.

    Raises:
        DatasetError: a folder is missing, no image has a label, or two images would share one.
    """
    need_folder(images, "the images", "--images")
    need_folder(labels, "the label masks", "--labels")
    masks = {_key(file, labels): file for file in _images_below(labels) if file.suffix.lower() == ".png"}
    among = labels.resolve().is_relative_to(images.resolve())
    own = {file.resolve() for file in masks.values()} if among else set()
    found: dict[Path, LabelledImage] = {}
    unlabelled = []
    for image in _images_below(images):
        key = _key(image, images)
        if image.resolve() in own:
            continue
        if key not in masks:
            unlabelled.append(image)
            continue
        if key in found:
            raise DatasetError(f"{found[key].image} and {image} would share the label {masks[key]}")
        number = _LAST_NUMBER.fullmatch(str(key))
        sequence, frame = (number[1], int(number[2])) if number else (str(key), 0)
        found[key] = LabelledImage(image=image, label=masks[key], sequence=sequence, frame=frame)
    if not found:
        raise DatasetError(
            f"no image in {images} has a label: that of a.jpg is {labels / 'a.png'}, an 8-bit PNG of ids"
        )
    return in_order(found.values()), unlabelled


def _images_below(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if is_image(path) and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _key(file: Path, folder: Path) -> Path:
    """What an image and its label have in common: the path below their folders, without the suffix."""
    return file.relative_to(folder).with_suffix("")


def of_sequences(
    items: Sequence[LabelledImage], sequences: Sequence[str], split: str
) -> Sequence[LabelledImage]:
    """Filter images by sequence; without any sequence return all of them.

    Raises:
        DatasetError: The split has no image of one of the sequences.
    """
    if not sequences:
        return items
    known = sorted({item.sequence for item in items})
    if missing := [name for name in sequences if name not in known]:
        raise DatasetError(f"no images of {', '.join(missing)} in {split}; there are {', '.join(known)}")
    return [item for item in items if item.sequence in set(sequences)]


def in_order(found: Iterable[LabelledImage]) -> list[LabelledImage]:
    """Sort images by sequence, then by time."""
    return sorted(found, key=lambda item: (item.sequence, item.frame, item.image.name))


def with_plain_labels(
    items: Sequence[LabelledImage], read_label: ReadLabel, folder: Path
) -> list[LabelledImage]:
    """Write each label as a PNG of plain ids, which training and evaluation can read.

    Args:
        items: Images of one data set.
        read_label: Function of that data set that reads a label.
        folder: Folder for the PNGs, created if missing; an existing PNG is kept. Several processes may share
            it.

    Returns:
        The items with the written labels, in the same order.

    Raises:
        ValueError: A label cannot be read, or two have the same name.
        OSError: A file cannot be read or written.
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
            write_whole(target, encode_label(read_label(item.label)))
    return plain
