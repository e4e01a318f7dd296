"""CamVid as 11-class images and label masks on disk, in order of time.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video: a high-definition ground truth database"
(2009), with one folder for images and one for labels per split, as the authors of SegNet published it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images import decode_label
from dance_ondevice.labels import IGNORE

#: What the published label masks write where a pixel belongs to none of the 11 classes.
VOID_ID = 11

_NAME = re.compile(r"(?P<sequence>.+)_[^_0-9]?(?P<frame>[0-9]+)")
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


class DatasetError(ValueError):
    """A folder that is not laid out as the reader expects."""


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """One image file and its label mask.

    Attributes:
        image: JPEG or PNG.
        label: 8-bit single-channel PNG of the same size.
        sequence: the drive it was filmed on, such as ``0001TP``.
        frame: its number within the sequence; grows with time.
    """

    image: Path
    label: Path
    sequence: str
    frame: int


def camvid(
    root: Path, splits: Sequence[str] = ("train",), sequences: Sequence[str] | None = None
) -> list[LabelledImage]:
    """List the images of some splits, by sequence and then by time.

    Args:
        root: folder with ``<split>/`` (images named ``<SEQUENCE>_<frame>``) and ``<split>annot/``
            (labels named ``<stem>.png``).
        splits: folders to take, such as ``("train", "val")``.
        sequences: sequences to keep; None keeps all.

    Raises:
        DatasetError: a folder, a label or a wanted sequence is missing, or a name cannot be read.
    """
    found = [item for split in splits for item in _split(root, split)]
    if sequences is not None:
        known = {item.sequence for item in found}
        missing = [name for name in sequences if name not in known]
        if missing:
            raise DatasetError(
                f"no images of {', '.join(missing)} in {root} ({', '.join(splits)}); "
                f"its sequences are {', '.join(sorted(known))}"
            )
        found = [item for item in found if item.sequence in set(sequences)]
    return sorted(found, key=lambda item: (item.sequence, item.frame, item.image.name))


def read_label(path: Path) -> NDArray[np.uint8]:
    """Read one label mask with the unlabelled pixels as ``IGNORE``.

    Returns:
        (H, W) uint8, ids 0 to 10 and 255.

    Raises:
        ImageError: the file is no 8-bit single-channel PNG.
        OSError: the file cannot be read.
    """
    label = decode_label(path.read_bytes())
    label[label == VOID_ID] = IGNORE
    return label


def _split(root: Path, split: str) -> Iterator[LabelledImage]:
    images, labels = root / split, root / f"{split}annot"
    for folder, content in ((images, "the images"), (labels, "the label masks")):
        if not folder.is_dir():
            raise DatasetError(f"no folder {folder}: it should hold {content} of the split {split!r}")
    any_image = False
    for image in sorted(images.iterdir()):
        if image.suffix.lower() not in _SUFFIXES:
            continue
        any_image = True
        name = _NAME.fullmatch(image.stem)
        if name is None:
            raise DatasetError(
                f"cannot read sequence and frame from {image}: "
                "a name is <SEQUENCE>_<frame>, such as 0001TP_008520 or 0006R0_f01080"
            )
        label = labels / f"{image.stem}.png"
        if not label.is_file():
            raise DatasetError(f"{image} has no label mask: expected {label}")
        yield LabelledImage(image=image, label=label, sequence=name["sequence"], frame=int(name["frame"]))
    if not any_image:
        raise DatasetError(f"no .jpg, .jpeg or .png images in {images}")
