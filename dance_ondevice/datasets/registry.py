"""The labelled data sets by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dance_ondevice.datasets import acdc, bdd100k, camvid, cityscapes, idd_lite, layouts
from dance_ondevice.datasets.cityscapes import NINETEEN_CLASSES
from dance_ondevice.datasets.listing import (
    Dataset,
    DatasetError,
    LabelledImage,
    ReadLabel,
    in_order,
    read_plain,
)
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.labels import IGNORE, STREET_CLASSES, LabelError


@dataclass(frozen=True)
class _Reader:
    """Functions and classes of a data set, for :class:`Dataset`."""

    images: Callable[[Path, Sequence[str]], list[LabelledImage]]
    classes: tuple[str, ...]
    read_label: ReadLabel
    void: tuple[int, ...] | None = ()


_read_nineteen = partial(read_plain, n_classes=len(NINETEEN_CLASSES))
#: Readers of data sets with fixed classes, by name.
_READERS: Mapping[str, _Reader] = {
    "camvid": _Reader(camvid.camvid, STREET_CLASSES, camvid.read_label, (camvid.VOID_ID,)),
    "cityscapes": _Reader(cityscapes.cityscapes, NINETEEN_CLASSES, cityscapes.read_label, None),
    "bdd100k": _Reader(bdd100k.bdd100k, NINETEEN_CLASSES, bdd100k.read_label),
    "acdc": _Reader(acdc.acdc, NINETEEN_CLASSES, _read_nineteen),
    "idd_lite": _Reader(idd_lite.idd_lite, idd_lite.IDD_LITE_CLASSES, idd_lite.read_label),
}

DATASET_NAMES: tuple[str, ...] = ("camvid", "camvid32", "cityscapes", "bdd100k", "acdc", "idd_lite")


def open_dataset(name: str, root: Path, conditions: Sequence[str] = ()) -> Dataset:
    """Open a data set in a folder with the layout that its module describes.

    Its ``images`` raises a ``DatasetError`` that also says where the data set may be, if it is not in the
    folder, or which other one is; and one for a split without any labelled pixel.

    Args:
        name: Name, one of ``DATASET_NAMES``.
        root: Folder of the data set.
        conditions: Conditions of ``acdc.ACDC_CONDITIONS`` to take; empty for all.

    Raises:
        ValueError: There is no data set with this name.
        DatasetError: The class names in the folder cannot be read, or the data set does not distinguish
            conditions.
    """
    if name not in DATASET_NAMES:
        raise ValueError(f"unknown data set {name!r}; choose one of {', '.join(DATASET_NAMES)}")
    if conditions and name != "acdc":
        raise DatasetError(f"{name} does not distinguish conditions; only acdc does")
    if name == "camvid32":
        with _hinted(name, root):
            colours = camvid.LabelColours.load(root)
        reader = _Reader(camvid.camvid32, colours.classes, colours.read_label, None)
    else:
        reader = _READERS[name]
    listed = partial(acdc.acdc, conditions=tuple(conditions)) if name == "acdc" else reader.images

    def images(splits: Sequence[str]) -> list[LabelledImage]:
        with _hinted(name, root):
            if name == "camvid" and layouts.known(root) == ["idd_lite"]:
                # Its names and masks could be CamVid's, but its classes are different.
                raise DatasetError(f"{root} holds IDD-Lite, not CamVid")
            found = {split: listed(root, (split,)) for split in splits}
        for split, items in found.items():
            _need_labels(items, reader.read_label, split)
        return in_order(item for items in found.values() for item in items)

    return Dataset(
        name=name, classes=reader.classes, images=images, read_label=reader.read_label, void=reader.void
    )


@contextmanager
def _hinted(name: str, root: Path) -> Iterator[None]:
    """Add to an error about a folder where the data set is, or which one the folder holds."""
    try:
        yield
    except DatasetError as error:
        told = layouts.hint(name, root)
        raise DatasetError(f"{error}; {told}" if told else str(error)) from error


def _need_labels(items: Sequence[LabelledImage], read_label: ReadLabel, split: str) -> None:
    """Check that a split has a labelled pixel: published test splits often have labels without any.

    Raises:
        DatasetError: The split has no labelled pixel.
    """
    for item in items:
        try:
            if np.any(read_label(item.label) != IGNORE):
                return
        except (ImageError, LabelError, OSError):
            return  # the error is reported where the label is used
    raise DatasetError(
        f"no pixel of the split {split!r} is labelled ({len(items)} masks checked, such as "
        f"{items[0].label}): its labels are not published; take another split, such as val"
    )
