"""BDD100K, semantic segmentation of 10,000 images ("10k"), 19 classes.

Yu et al., "BDD100K: A Diverse Driving Dataset for Heterogeneous Multitask Learning" (CVPR 2020). The masks
hold train ids, the same as those of Cityscapes, and 255 for what is not labelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.datasets.listing import DatasetError, LabelledImage, images_in, in_order, need_folder
from dance_ondevice.datasets.nineteen import NINETEEN_CLASSES
from dance_ondevice.images.codec import decode_label
from dance_ondevice.images.labels import LabelError, check_label


def bdd100k(root: Path, splits: Sequence[str] = ("train",)) -> list[LabelledImage]:
    """List the images of some splits by name.

    Each image is from a drive of its own, so its name is its sequence and its frame is 0.

    Args:
        root: folder with ``images/10k/<split>/<name>.jpg`` and ``labels/sem_seg/masks/<split>/<name>.png``.
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
    label = decode_label(path.read_bytes())
    try:
        check_label(label, len(NINETEEN_CLASSES))
    except LabelError as error:
        raise LabelError(f"{path}: {error}") from error
    return label


def _split(root: Path, split: str) -> Iterator[LabelledImage]:
    images, labels = root / "images" / "10k" / split, root / "labels" / "sem_seg" / "masks" / split
    found = images_in(images, split)
    need_folder(labels, "the label masks", split)
    for image in found:
        label = labels / f"{image.stem}.png"
        if not label.is_file():
            raise DatasetError(f"{image} has no label mask: expected {label}")
        yield LabelledImage(image=image, label=label, sequence=image.stem, frame=0)
