"""Images to train and evaluate a base model on: a labelled data set, or a user's own two folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dance_ondevice.datasets.listing import (
    Dataset,
    DatasetError,
    LabelledImage,
    in_folders,
    of_sequences,
    read_plain,
    with_plain_labels,
)
from dance_ondevice.files import read_regular
from dance_ondevice.images.headers import ImageError, ImageInfo, probe
from dance_ondevice.images.labels import LabelError
from dance_ondevice.training.batches import TrainingSample

#: Name of the set of the user's images that are not trained on.
HELD_OUT = "held out"


@dataclass(frozen=True, kw_only=True)
class BaseImages:
    """Training samples, sets of samples to evaluate on by name, and their description for the card."""

    train: list[TrainingSample]
    validation: dict[str, list[TrainingSample]]
    description: dict[str, object]


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


def from_folders(images: Path, labels: Path, classes: Sequence[str], hold_out: float) -> BaseImages:
    """Take a user's own images and labels; every label is read, so that a wrong one is reported at once.

    Args:
        images: Folder of ``<name>.jpg`` or ``.png``.
        labels: Folder of ``<name>.png``, 8-bit ids of ``classes``, 255 for unlabelled pixels.
        classes: Class names in the order of their ids.
        hold_out: Share of the images, the last by name and number, to evaluate on instead of training.

    Raises:
        DatasetError: A folder is missing, no image has a label, a label cannot be used or has other
            proportions than its image, an image cannot be read, or no image is left to train on.
    """
    found = in_folders(images, labels)
    for item in found:
        seen = None
        try:
            seen = read_plain(item.label, len(classes)).shape
            _check_proportions(item, seen, probe(read_regular(item.image)))
        except LabelError as error:
            named = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
            raise DatasetError(f"{error}; the classes are {named} (model.classes)") from error
        except (ImageError, OSError) as error:
            raise DatasetError(f"{item.label if seen is None else item.image}: {error}") from error
    samples = [TrainingSample(item.image, item.label) for item in found]
    kept = len(samples) - round(hold_out * len(samples))
    if kept < 1:
        raise DatasetError(f"{len(samples)} labelled images leave none to train on; hold fewer out")
    return BaseImages(
        train=samples[:kept],
        validation={HELD_OUT: samples[kept:]} if kept < len(samples) else {},
        description={"name": "folders", "images": images.name, "labels": labels.name, "hold_out": hold_out},
    )


def _check_proportions(item: LabelledImage, label: tuple[int, ...], image: ImageInfo) -> None:
    """Refuse a label that is no reduction of its image: stretched onto it, it would teach wrong classes."""
    height, width = label
    off = abs(height - width * image.height / image.width), abs(width - height * image.width / image.height)
    if min(off) > 1:  # a side that was rounded is less than a pixel off
        raise DatasetError(
            f"{item.label} is {width}x{height} pixels, its image {image.width}x{image.height}: a label is as "
            "large as its image, or of another size with the same proportions"
        )
