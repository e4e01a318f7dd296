"""The images of a plan: for training, and for evaluating at one scale or at one by complexity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dance_ondevice.benchmarks.slimming.choices import complexities
from dance_ondevice.benchmarks.slimming.plan import Plan
from dance_ondevice.datasets.listing import DatasetError, with_plain_labels
from dance_ondevice.datasets.registry import open_dataset
from dance_ondevice.training.batches import TrainingSample, image_size

#: Of every ten drives by name, those to train on and those to evaluate on when the drives are divided.
_TRAINED_ON, _EVALUATED_ON = (0, 3, 5, 8), (2,)


def drives(names: Sequence[str], split: str) -> list[str]:
    """The drives that belong to "train" or to "val" when those of one split are divided.

    Of every ten by name, the first, fourth, sixth and ninth are to train on and the third is to evaluate on.
    """
    places = _TRAINED_ON if split == "train" else _EVALUATED_ON
    return [name for place, name in enumerate(sorted(names)) if place % 10 in places]


def labelled(plan: Plan, split: str) -> tuple[TrainingSample, ...]:
    """The labelled images of a split in order of time; for training only those of the plan's sequences.

    Raises:
        DatasetError: The split is missing, has none of the sequences, or too few drives to divide.
    """
    dataset = open_dataset(plan.dataset, plan.root, plan.conditions)
    items = dataset.images(("train" if plan.by_drive else split,))
    if plan.by_drive:
        known = {item.sequence for item in items}
        wanted = drives(sorted(known), split)
        if not wanted:
            raise DatasetError(
                f"train has {len(known)} drives, too few to hold some out; leave out --by-drive"
            )
        items = [item for item in items if item.sequence in wanted]
    if split == "train" and plan.sequences:
        there = sorted({item.sequence for item in items})
        items = [item for item in items if item.sequence in plan.sequences]
        if not items:
            raise DatasetError(
                f"no images of {', '.join(plan.sequences)} in {split}; there are {', '.join(there)}"
            )
    plain = with_plain_labels(items, dataset.read_label, plan.work / "labels" / split)
    return tuple(TrainingSample(item.image, item.label) for item in plain)


def for_inference(
    samples: Sequence[TrainingSample],
    plan: Plan,
    scales: Sequence[float],
    training: Sequence[TrainingSample],
) -> tuple[TrainingSample, ...]:
    """The samples, each with the scale of its inference as a factor of the stored size.

    With several scales an image's scale follows from the rank of its complexity among the training images, of
    which each scale gets an equal share: as in operation, an image is ranked among earlier ones.
    """
    if len(scales) == 1:
        chosen = [scales[0]] * len(samples)
    else:
        known = sorted(complexities(training, scales))
        ascending = sorted(scales)
        cuts = [known[len(known) * k // len(scales)] for k in range(1, len(scales))]
        chosen = [ascending[sum(score >= cut for cut in cuts)] for score in complexities(samples, scales)]
    return tuple(
        replace(sample, scale=scale * min(1.0, plan.size[0] / image_size(sample)[0]))
        for sample, scale in zip(samples, chosen, strict=True)
    )
