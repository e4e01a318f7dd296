"""What a choice of scales is worth: the mIoU of images of which each scale gets an equal share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dance_ondevice.images.confusion import Matrix, miou

__all__ = ["AT_RANDOM", "ONE_SCALE", "by_rank", "compared", "same_cost"]

AT_RANDOM = "at random"
ONE_SCALE = "one scale for all"
#: Draws whose mean is what chance does.
_DRAWS = 20


def same_cost(scales: Sequence[float]) -> float:
    """Return the one scale at which as many pixels are seen as at equal shares of several."""
    return math.sqrt(sum(scale**2 for scale in scales) / len(scales))


def by_rank(scores: Sequence[float], scales: Sequence[float]) -> list[float]:
    """Return a scale for each image: equal shares, the largest scale for the highest scores."""
    rising = sorted(scales)
    chosen = [rising[0]] * len(scores)
    for place, index in enumerate(np.argsort(scores, kind="stable")):
        chosen[index] = rising[place * len(rising) // len(scores)]
    return chosen


def compared(
    matrices: Sequence[Mapping[float, Matrix]],
    scores: Mapping[str, Sequence[float]],
    scales: Sequence[float],
) -> dict[str, float]:
    """Return the mIoU of all images together by what chooses their scales.

    Args:
        matrices: Of each image, the confusion matrix by scale: of all the scales, and of ``same_cost``.
        scores: Of each image, by the name of an indicator; higher means that downsampling would lose more.
        scales: Of which each gets an equal share.
    """

    def together(chosen: Sequence[float]) -> float:
        found: Matrix = sum(
            (each[scale] for each, scale in zip(matrices, chosen, strict=True)),
            start=np.zeros_like(matrices[0][1.0]),
        )
        return miou(found)

    dice = np.random.default_rng(0)
    draws = [together(by_rank(dice.random(len(matrices)).tolist(), scales)) for _ in range(_DRAWS)]
    return {
        **{name: together(by_rank(found, scales)) for name, found in scores.items()},
        AT_RANDOM: float(np.mean(draws)),
        ONE_SCALE: together([same_cost(scales)] * len(matrices)),
    }
