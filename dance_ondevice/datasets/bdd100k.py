"""BDD100K, semantic segmentation of 10,000 images ("10k"), 19 classes.

Yu et al., "BDD100K: A Diverse Driving Dataset for Heterogeneous Multitask Learning" (CVPR 2020). The masks
hold train ids, the same as those of Cityscapes, and 255 for what is not labelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.datasets.cityscapes import NINETEEN_CLASSES
from dance_ondevice.datasets.listing import (
    DatasetError,
    LabelledImage,
    images_in,
    in_order,
    need_folder,
    read_plain,
)


def bdd100k(root: Path, splits: Sequence[str] = ("train",)) -> list[LabelledImage]:
    """List the images of some splits by name.

    Each image is from a drive of its own, so its name is its sequence and its frame is 0.

    Args:
        root: folder with ``images/10k/<split>/<name>.jpg`` and ``labels/sem_seg/masks/<split>/<name>.png``,
            or, as first published, with ``seg/images/<split>/<name>.jpg`` and
            ``seg/labels/<split>/<name>_train_id.png`` (or the folder ``seg`` itself).
        splits: such as ``("train", "val")``. The labels of "test" are not published.

    Raises:
        DatasetError: a folder or a label is missing.
    """
    return in_order(item for split in splits for item in _split(root, split))


def read_label(path: Path) -> NDArray[np.uint8]:
    """Read one label mask.

    Returns:
        (H, W) uint8, ids 0 to 18 and 255.

    Raises:
        ImageError: the file is no 8-bit single-channel PNG.
        LabelError: it holds other ids.
        OSError: the file cannot be read.
    """
    return read_plain(path, len(NINETEEN_CLASSES))


def _folders(root: Path, split: str) -> tuple[Path, Path, str]:
    """The folders of images and labels, and what follows a name in those of labels."""
    for old in (root / "seg", root):
        if old.name == "seg" and (old / "images").is_dir():
            return old / "images" / split, old / "labels" / split, "_train_id"
    return root / "images" / "10k" / split, root / "labels" / "sem_seg" / "masks" / split, ""


def _split(root: Path, split: str) -> Iterator[LabelledImage]:
    images, labels, suffix = _folders(root, split)
    found = images_in(images, split)
    need_folder(labels, "the label masks", split)
    for image in found:
        label = labels / f"{image.stem}{suffix}.png"
        if not label.is_file():
            raise DatasetError(f"{image} has no label mask: expected {label}")
        yield LabelledImage(image=image, label=label, sequence=image.stem, frame=0)
