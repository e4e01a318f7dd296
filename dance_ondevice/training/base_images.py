"""What a base model is trained on and measured by: a labelled data set, or a user's own two folders."""

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
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.labels import LabelError
from dance_ondevice.training.batches import TrainingSample

#: The name of the images of the user's own that are not trained on.
HELD_OUT = "held out"


@dataclass(frozen=True, kw_only=True)
class BaseImages:
    """What to train on, what to evaluate on by name, and how the card tells it."""

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
    """The images of a data set.

    Args:
        dataset: opened.
        splits: to train on.
        validate: splits to evaluate on.
        sequences: to train on these alone; empty for all.
        conditions: that the data set was opened with, for the card.
        folder: for labels that must be translated.

    Raises:
        DatasetError: a split or sequence is not there, or has no labels.
        ImageError: a label cannot be read.
        LabelError: a label holds ids or colours that the data set does not have.
        OSError: a file cannot be read or written.
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
    """A user's own images and labels; every label is read, so that a wrong one is told of at once.

    Args:
        images: folder of ``<name>.jpg`` or ``.png``.
        labels: folder of ``<name>.png``, 8-bit ids of ``classes``, 255 for what is not labelled.
        classes: names in the order of their ids.
        hold_out: share of the images, the last of all by name and number, to evaluate on and not to train on.

    Raises:
        DatasetError: a folder is missing, no image has a label, a label cannot be used, or nothing is left to
            train on.
    """
    found = in_folders(images, labels)
    for item in found:
        try:
            read_plain(item.label, len(classes))
        except LabelError as error:
            named = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
            raise DatasetError(f"{error}; the classes are {named} (model.classes)") from error
        except (ImageError, OSError) as error:
            raise DatasetError(f"{item.label}: {error}") from error
    samples = [TrainingSample(item.image, item.label) for item in found]
    kept = len(samples) - round(hold_out * len(samples))
    if kept < 1:
        raise DatasetError(f"{len(samples)} labelled images leave none to train on; hold fewer out")
    return BaseImages(
        train=samples[:kept],
        validation={HELD_OUT: samples[kept:]} if kept < len(samples) else {},
        description={"name": "folders", "images": images.name, "labels": labels.name, "hold_out": hold_out},
    )
