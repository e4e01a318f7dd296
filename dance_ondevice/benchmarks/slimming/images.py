"""The images of a plan: for training, and for evaluating at one scale or at one by complexity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dance_ondevice.benchmarks.slimming.choices import complexities
from dance_ondevice.benchmarks.slimming.plan import Plan
from dance_ondevice.datasets.listing import DatasetError, with_plain_labels
from dance_ondevice.datasets.registry import open_dataset
from dance_ondevice.training.batches import TrainingSample, image_size


def labelled(plan: Plan, split: str) -> tuple[TrainingSample, ...]:
    """The labelled images of a split in order of time; for training only those of the plan's sequences.

    Raises:
        DatasetError: The split is missing, or has none of the sequences.
    """
    dataset = open_dataset(plan.dataset, plan.root, plan.conditions)
    items = dataset.images((split,))
    if split == "train" and plan.sequences:
        known = sorted({item.sequence for item in items})
        items = [item for item in items if item.sequence in plan.sequences]
        if not items:
            raise DatasetError(
                f"no images of {', '.join(plan.sequences)} in {split}; there are {', '.join(known)}"
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
