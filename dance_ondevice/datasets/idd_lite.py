"""IDD-Lite: the India Driving Dataset at 320x227 with 7 classes.

Mishra et al., "Semantic Segmentation Datasets for Resource Constrained Training" (NCVPRIPG 2019). Read are
the layout as published and a flat one, a folder of images and one of labels for each split as in CamVid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.datasets.listing import (
    DatasetError,
    LabelledImage,
    images_in,
    in_order,
    is_image,
    need_folder,
    read_plain,
)

#: Level 1 of IDD's hierarchy, in the order of the ids.
IDD_LITE_CLASSES: tuple[str, ...] = (
    "drivable",
    "non-drivable",
    "living thing",
    "vehicle",
    "roadside object",
    "far object",
    "sky",
)

_FLAT = re.compile(r"(?P<sequence>d[0-9]+)_(?P<frame>[0-9]+)")
_PUBLISHED = re.compile(r"(?P<frame>[0-9]+)_image")


def idd_lite(root: Path, splits: Sequence[str] = ("train",)) -> list[LabelledImage]:
    """List the images of some splits, by drive and then by frame number.

    Args:
        root: folder with ``leftImg8bit/<split>/<drive>/<frame>_image.jpg`` and
            ``gtFine/<split>/<drive>/<frame>_label.png``, as published; or with
            ``<split>/d<drive>_<frame>.jpg`` and ``<split>annot/d<drive>_<frame>.png``.
        splits: such as ``("train", "val")``. The labels of "test" are not published.

    Raises:
        DatasetError: a folder or a label is missing, or a name cannot be read.
    """
    read = _published if (root / "leftImg8bit").is_dir() else _flat
    return in_order(item for split in splits for item in read(root, split))


def is_flat(folder: Path) -> bool:
    """Whether a folder of images is one of this data set's, by the names of its files."""
    names = [path.stem for path in folder.iterdir() if is_image(path)]
    return bool(names) and all(_FLAT.fullmatch(name) for name in names)


def is_published(folder: Path) -> bool:
    """Whether ``leftImg8bit`` is this data set's and not Cityscapes'."""
    return next(folder.glob("*/*/*_image.jpg"), None) is not None


def read_label(path: Path) -> NDArray[np.uint8]:
    """Read one label mask.

    Returns:
        (H, W) uint8, ids 0 to 6 and 255.

    Raises:
        ImageError: the file is no 8-bit single-channel PNG.
        LabelError: it holds other ids.
        OSError: the file cannot be read.
    """
    return read_plain(path, len(IDD_LITE_CLASSES))


def _flat(root: Path, split: str) -> Iterator[LabelledImage]:
    images, labels = root / split, root / f"{split}annot"
    found = images_in(images, split)
    need_folder(labels, "the label masks", split)
    for image in found:
        name = _FLAT.fullmatch(image.stem)
        if name is None:
            raise DatasetError(
                f"cannot read drive and frame from {image}: a name is d<drive>_<frame>, such as d012_024541"
            )
        yield _labelled(image, labels / f"{image.stem}.png", name["sequence"], int(name["frame"]))


def _published(root: Path, split: str) -> Iterator[LabelledImage]:
    images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
    need_folder(images, "one folder of images for each drive", split)
    need_folder(labels, "one folder of label masks for each drive", split)
    for drive in sorted(path for path in images.iterdir() if path.is_dir()):
        for image in images_in(drive, split):
            name = _PUBLISHED.fullmatch(image.stem)
            if name is None:
                raise DatasetError(
                    f"cannot read the frame from {image}: a name is <frame>_image.jpg, such as 0245_image.jpg"
                )
            label = labels / drive.name / f"{name['frame']}_label.png"
            yield _labelled(image, label, drive.name, int(name["frame"]))


def _labelled(image: Path, label: Path, sequence: str, frame: int) -> LabelledImage:
    if not label.is_file():
        raise DatasetError(f"{image} has no label mask: expected {label}")
    return LabelledImage(image=image, label=label, sequence=sequence, frame=frame)
