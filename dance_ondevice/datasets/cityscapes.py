"""Cityscapes as published: ``leftImg8bit`` and ``gtFine``, 19 classes.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding" (CVPR 2016). The meaning of the
ids is that of ``labels.py`` in the data set's own scripts (github.com/mcordts/cityscapesScripts).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.datasets.listing import DatasetError, LabelledImage, images_in, in_order, need_folder
from dance_ondevice.images.codec import decode_label
from dance_ondevice.images.labels import IGNORE, LabelError, check_label

#: The classes of Cityscapes, and of data sets that took them over, in the order of their train ids.
NINETEEN_CLASSES: tuple[str, ...] = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)

#: Ids in ``labelIds`` files are below this; 255 stands for -1, the licence plates.
_N_LABEL_IDS = 34
#: The id of each train id in ``labelIds`` files; the ids between them are not evaluated.
_LABEL_ID_OF = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

_IMAGE = re.compile(r"(?P<key>(?P<sequence>.+_[0-9]+)_(?P<frame>[0-9]+))_leftImg8bit")
_TRAIN_IDS = "_gtFine_labelTrainIds.png"
_LABEL_IDS = "_gtFine_labelIds.png"


def cityscapes(root: Path, splits: Sequence[str] = ("train",)) -> list[LabelledImage]:
    """List the images of some splits, by sequence and then by time.

    Args:
        root: folder with ``leftImg8bit/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png`` and, in
            ``gtFine/<split>/<city>/``, ``..._gtFine_labelTrainIds.png`` or ``..._gtFine_labelIds.png``; where
            both are there the former is taken.
        splits: such as ``("train", "val")``. The labels of "test" are not published.

    Raises:
        DatasetError: a folder or a label is missing, or a name cannot be read.
    """
    return in_order(item for split in splits for item in _split(root, split))


def read_label(path: Path) -> NDArray[np.uint8]:
    """Read a ``labelTrainIds`` or ``labelIds`` file, told apart by its name, as train ids.

    Returns:
        (H, W) uint8, ids 0 to 18 and 255.

    Raises:
        ImageError: the file is no 8-bit single-channel PNG.
        LabelError: it holds ids that such a file does not have.
        OSError: the file cannot be read.
    """
    label = decode_label(path.read_bytes())
    in_label_ids = path.name.endswith(_LABEL_IDS)
    try:
        check_label(label, _N_LABEL_IDS if in_label_ids else len(NINETEEN_CLASSES))
    except LabelError as error:
        raise LabelError(f"{path}: {error}") from error
    return _train_ids()[label] if in_label_ids else label


def _train_ids() -> NDArray[np.uint8]:
    """(256,) uint8: the train id of each id."""
    table = np.full(256, IGNORE, np.uint8)
    table[list(_LABEL_ID_OF)] = np.arange(len(_LABEL_ID_OF))
    return table


def _split(root: Path, split: str) -> Iterator[LabelledImage]:
    images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
    need_folder(images, "one folder of images for each city", split)
    need_folder(labels, "one folder of label masks for each city", split)
    cities = sorted(path for path in images.iterdir() if path.is_dir())
    if not cities:
        raise DatasetError(f"no folders in {images}: expected one for each city, such as {images / 'aachen'}")
    for city in cities:
        for image in images_in(city, split):
            name = _IMAGE.fullmatch(image.stem)
            if name is None:
                raise DatasetError(
                    f"cannot read sequence and frame from {image}: a name is "
                    "<city>_<sequence>_<frame>_leftImg8bit.png, such as aachen_000000_000019_leftImg8bit.png"
                )
            wanted = [labels / city.name / f"{name['key']}{suffix}" for suffix in (_TRAIN_IDS, _LABEL_IDS)]
            label = next((path for path in wanted if path.is_file()), None)
            if label is None:
                raise DatasetError(f"{image} has no label mask: expected {wanted[0]} or {wanted[1].name}")
            yield LabelledImage(image=image, label=label, sequence=name["sequence"], frame=int(name["frame"]))
