"""ACDC: fog, night, rain and snow, each image with one of the same road by clear day; 19 classes.

Sakaridis, Dai, Van Gool, "ACDC: The Adverse Conditions Dataset with Correspondences for Semantic Driving
Scene Understanding" (ICCV 2021). Classes and train ids are those of Cityscapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dance_ondevice.datasets.listing import DatasetError, LabelledImage, images_in, in_order, need_folder

ACDC_CONDITIONS = ("fog", "night", "rain", "snow")

_IMAGE = re.compile(r"(?P<key>.+_frame_(?P<frame>[0-9]+))_rgb_anon")
_LABEL = "_gt_labelTrainIds.png"
#: The folders of the two archives, which may lie in folders of the archives' names.
_IMAGES = ("rgb_anon", "rgb_anon_trainvaltest/rgb_anon")
_LABELS = ("gt", "gt_trainval/gt")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An image in an adverse condition, and an unlabelled one of the same location by clear day."""

    condition: str
    image: Path
    reference: Path
    sequence: str
    frame: int


def acdc(
    root: Path, splits: Sequence[str] = ("train",), conditions: Sequence[str] = ()
) -> list[LabelledImage]:
    """List the images of some splits, by sequence and then by time.

    Args:
        root: folder with ``rgb_anon/<condition>/<split>/<sequence>/<sequence>_frame_<frame>_rgb_anon.png``
            and, in ``gt/<condition>/<split>/<sequence>/``, ``..._gt_labelTrainIds.png``; or the folder with
            the two that the archives unpack to, ``rgb_anon_trainvaltest`` and ``gt_trainval``.
        splits: such as ``("train", "val")``. The labels of "test" are not published.
        conditions: of ``ACDC_CONDITIONS``; empty for all.

    Raises:
        DatasetError: a folder or a label is missing, a name cannot be read, or there is no such condition.
    """
    images, labels = _folder(root, _IMAGES), _folder(root, _LABELS)
    return in_order(
        item
        for condition in _chosen(conditions)
        for split in splits
        for item in _split(images / condition / split, labels / condition / split, split)
    )


def pairs(root: Path, splits: Sequence[str] = ("train",), conditions: Sequence[str] = ()) -> list[Pair]:
    """List the images of some splits that have a reference image, by condition, sequence and time.

    The references lie beside the splits, in ``<split>_ref``, as ``..._rgb_ref_anon.png``.

    Args:
        root: see :func:`acdc`.
        splits: such as ``("train", "val", "test")``; no labels are needed.
        conditions: of ``ACDC_CONDITIONS``; empty for all.

    Raises:
        DatasetError: a folder is missing, a name cannot be read, or there is no such condition.
    """
    images = _folder(root, _IMAGES)
    found = []
    for condition in _chosen(conditions):
        for split in splits:
            references = images / condition / f"{split}_ref"
            need_folder(references, "one folder of reference images for each sequence", split)
            for image, name in _named(images / condition / split, split):
                reference = references / image.parent.name / f"{name['key']}_rgb_ref_anon.png"
                if reference.is_file():
                    found.append(
                        Pair(
                            condition=condition,
                            image=image,
                            reference=reference,
                            sequence=image.parent.name,
                            frame=int(name["frame"]),
                        )
                    )
    return found


def _folder(root: Path, places: Sequence[str]) -> Path:
    """Return the first existing folder; if none exists the first of all, for the error."""
    return next((root / place for place in places if (root / place).is_dir()), root / places[0])


def _chosen(conditions: Sequence[str]) -> Sequence[str]:
    unknown = [name for name in conditions if name not in ACDC_CONDITIONS]
    if unknown:
        raise DatasetError(f"{unknown[0]!r} is none of ACDC's conditions: {', '.join(ACDC_CONDITIONS)}")
    return conditions or ACDC_CONDITIONS


def _split(images: Path, labels: Path, split: str) -> Iterator[LabelledImage]:
    named = list(_named(images, split))
    need_folder(labels, "one folder of label masks for each sequence", split)
    for image, name in named:
        label = labels / image.parent.name / f"{name['key']}{_LABEL}"
        if not label.is_file():
            raise DatasetError(f"{image} has no label mask: expected {label}")
        yield LabelledImage(image=image, label=label, sequence=image.parent.name, frame=int(name["frame"]))


def _named(folder: Path, split: str) -> Iterator[tuple[Path, re.Match[str]]]:
    """Yield the images of one condition's split with the parsed names."""
    need_folder(folder, "one folder of images for each sequence", split)
    sequences = sorted(path for path in folder.iterdir() if path.is_dir())
    if not sequences:
        raise DatasetError(
            f"no folders in {folder}: expected one for each sequence, such as {folder / 'GOPR0475'}"
        )
    for sequence in sequences:
        for image in images_in(sequence, split):
            name = _IMAGE.fullmatch(image.stem)
            if name is None:
                raise DatasetError(
                    f"cannot read the frame from {image}: a name is <sequence>_frame_<frame>_rgb_anon.png, "
                    "such as GOPR0475_frame_000041_rgb_anon.png"
                )
            yield image, name
