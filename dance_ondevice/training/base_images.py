"""Images to train and evaluate a base model on: a labelled data set, or a user's own two folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.datasets.listing import (
    Dataset,
    DatasetError,
    LabelledImage,
    in_folders,
    of_sequences,
    with_plain_labels,
)
from dance_ondevice.files import read_regular, write_whole
from dance_ondevice.images.codec import encode_label
from dance_ondevice.images.headers import ImageError, ImageInfo, probe
from dance_ondevice.images.labels import IGNORE, LabelError, check_label
from dance_ondevice.label_formats.masks import decode_mask
from dance_ondevice.training.batches import TrainingSample

#: Name of the set of the user's images that are not trained on.
HELD_OUT = "held out"


@dataclass(frozen=True, kw_only=True)
class BaseImages:
    """Images to train and evaluate on.

    Attributes:
        train: Training samples.
        validation: Sets of samples to evaluate on, by name.
        description: What they are, for the card.
        notes: What the user should know of them before they are trained on.
    """

    train: list[TrainingSample]
    validation: dict[str, list[TrainingSample]]
    description: dict[str, object]
    notes: tuple[str, ...] = ()


def from_dataset(
    dataset: Dataset,
    splits: Sequence[str],
    validate: Sequence[str],
    *,
    sequences: Sequence[str] = (),
    conditions: Sequence[str] = (),
    folder: Path,
) -> BaseImages:
    """Take the images of a data set.

    Args:
        dataset: Opened data set.
        splits: Splits to train on.
        validate: Splits to evaluate on.
        sequences: Sequences to train on; empty for all.
        conditions: Conditions that the data set was opened with, for the card.
        folder: Folder for translated labels.

    Raises:
        DatasetError: A split or sequence is missing, or has no labels.
        ImageError: A label cannot be read.
        LabelError: A label holds ids or colours that the data set does not have.
        OSError: A file cannot be read or written.
    """

    def samples(items: Sequence[LabelledImage], split: str) -> list[TrainingSample]:
        if dataset.void is None:
            items = with_plain_labels(items, dataset.read_label, folder / split)
        return [TrainingSample(item.image, item.label, void=dataset.void or ()) for item in items]

    train: list[TrainingSample] = []
    for split in splits:
        train += samples(of_sequences(dataset.images((split,)), sequences, split), split)
    description: dict[str, object] = {"name": dataset.name, "splits": [*splits], "sequences": [*sequences]}
    return BaseImages(
        train=train,
        validation={split: samples(dataset.images((split,)), split) for split in validate},
        description=description | ({"conditions": [*conditions]} if conditions else {}),
    )


def from_folders(
    images: Path, labels: Path, classes: Sequence[str], hold_out: float, *, folder: Path
) -> BaseImages:
    """Take a user's own images and labels; every label is read, so that a wrong one is reported at once.

    Args:
        images: Folder of ``<name>.jpg`` or ``.png``.
        labels: Folder of ``<name>.png``, ids of ``classes`` in grey or in a palette, 255 for unlabelled ones.
        classes: Class names in the order of their ids.
        hold_out: Share of the images, the last by name and number, to evaluate on instead of training.
        folder: Folder for copies of labels that are not 8-bit grey, which training cannot read.

    Raises:
        DatasetError: A folder is missing, no image has a label, a label cannot be used or has other
            proportions than its image, an image cannot be read, the labels hold 0 and 255 alone, or no image
            is left to train on.
        OSError: A label cannot be copied.
    """
    found, unlabelled = in_folders(images, labels)
    named = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
    samples: list[TrainingSample] = []
    seen: set[int] = set()
    for item in found:
        ids = None
        try:
            data = read_regular(item.label)
            ids = _ids(data)
            check_label(ids, len(classes))
            _check_proportions(item, ids.shape, probe(read_regular(item.image)))
        except LabelError as error:
            raise DatasetError(f"{item.label}: {error}; the classes are {named} (model.classes)") from error
        except (ImageError, OSError) as error:
            raise DatasetError(f"{item.label if ids is None else item.image}: {error}") from error
        seen.update(np.unique(ids).tolist())
        info, label = probe(data), item.label
        if (info.channels, info.bit_depth) != (1, 8):
            label = folder / f"{len(samples)}.png"
            write_whole(label, encode_label(ids))
        samples.append(TrainingSample(item.image, label))
    if seen == {0, IGNORE} and len(classes) > 1:
        raise DatasetError(
            f"the labels in {labels} hold 0 and 255 alone, and 255 is no class but what nobody "
            f"labelled: write the id of its class in each pixel; the classes are {named} (model.classes)"
        )
    kept = len(samples) - round(hold_out * len(samples))
    if kept < 1:
        raise DatasetError(f"{len(samples)} labelled images leave none to train on; hold fewer out")
    return BaseImages(
        train=samples[:kept],
        validation={HELD_OUT: samples[kept:]} if kept < len(samples) else {},
        description={"name": "folders", "images": images.name, "labels": labels.name, "hold_out": hold_out},
        notes=tuple(_notes(unlabelled, len(found), [c for n, c in enumerate(classes) if n not in seen])),
    )


def _ids(png: bytes) -> NDArray[np.uint8]:
    """Read the ids of a label, in grey of up to 8 bits, in a palette, or in three equal channels.

    Raises:
        ImageError: It is something else.
    """
    ids = decode_mask(png).ids
    if ids is None:
        raise ImageError("its pixels are colours; give each the id of its class, in grey or in a palette")
    return ids


def _notes(unlabelled: Sequence[Path], labelled: int, missing: Sequence[str]) -> Iterator[str]:
    if unlabelled:
        count = f"{len(unlabelled)} of {labelled + len(unlabelled)}"
        yield f"{count} images have no label and are left out, such as {unlabelled[0]}"
    if missing:
        yield f"no label shows {', '.join(missing)}: nothing is learnt of that"


def _check_proportions(item: LabelledImage, label: tuple[int, ...], image: ImageInfo) -> None:
    """Refuse a label that is no reduction of its image: stretched onto it, it would teach wrong classes."""
    height, width = label
    off = abs(height - width * image.height / image.width), abs(width - height * image.width / image.height)
    if min(off) > 1:  # a side that was rounded is less than a pixel off
        raise DatasetError(
            f"{item.label} is {width}x{height} pixels, its image {image.width}x{image.height}: a label is as "
            "large as its image, or of another size with the same proportions"
        )
