"""How far measured statistics are believed: as far as masks of an image and of its mirror image agree.

Statistics that are measured on a camera's own images help some models and harm others, and a model's
confidence does not tell which: it rises even where full replacement loses ten points of mIoU. What does tell,
without a label, is whether the model still sees the same classes when an image is mirrored (agreement as an
estimate of accuracy: Jiang et al., "Assessing generalization of SGD via disagreement", ICLR 2022). So a few
blends of measured and own statistics are tried, and the one that agrees most is taken; the model's own stay
where even that one agrees clearly less than they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dance_ondevice.conditions.statistics import Estimator, NormStatistics, apply, capture, trust
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.cost import evaluating
from dance_ondevice.models.forward import logits, to_tensor

__all__ = ["MARGIN", "Agreed", "agreement", "blends", "estimate_agreeing"]

#: Blends to try beside 0 and the most that so many images allow.
_BLENDS = (0.25, 0.5)
#: How much less than the model's own statistics the best blend may agree: images that were taken within
#: seconds of each other agree less by about half of this where a blend still gains.
MARGIN = 0.01
#: Number of images, evenly spread, that agreement is measured on.
_CHECKED = 6
#: Rows of a mask that are compared: every fourth is enough.
_STEP = 4

T = TypeVar("T")
Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Agreed:
    """Statistics of a condition, and how they were chosen.

    Attributes:
        statistics: The statistics; the model's own where every blend agrees clearly less.
        blend: Weight of the measured statistics in them, 0 to 1.
        tried: Agreement by blend, in [0, 1]; empty if the blend was given.
    """

    statistics: NormStatistics
    blend: float
    tried: dict[float, float]


def blends(images: int) -> tuple[float, ...]:
    """Return the blends to try for statistics of n images, rising from 0 to ``trust(n)``."""
    most = trust(images)
    return tuple(sorted({0.0, *(blend for blend in _BLENDS if blend < most), most}))


def agreement(model: nn.Module, images: Iterable[Image], normalisation: Normalisation) -> float:
    """Return the share of pixels, in [0, 1], that a model gives the same class in the mirrored image.

    Args:
        model: Model; its mode is the same afterwards.
        images: Images (h, w, 3) uint8 BGR, at least one.
        normalisation: Normalisation of the model's input.

    Raises:
        ValueError: There is no image.
    """
    same = count = 0
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad():
        for image in images:
            x = to_tensor(image, normalisation).to(device)
            equal = _classes(model, x) == _classes(model, x.flip(3)).flip(2)
            same, count = same + int(equal.sum()), count + equal.numel()
    if not count:
        raise ValueError("there are no images to compare with their mirror images")
    return same / count


def estimate_agreeing(
    model: nn.Module,
    sources: Sequence[T],
    read: Callable[[T], Image],
    normalisation: Normalisation,
    *,
    batch_size: int = 4,
    blend: float | None = None,
) -> Agreed:
    """Measure the statistics of a condition on unlabelled images, and blend them as far as masks agree.

    Of the blends above 0 the one with the largest agreement on the checked images is taken, of equal ones the
    least; the model's own statistics if it lies more than ``MARGIN`` below theirs.

    Args:
        model: Model that no other thread runs meanwhile; its statistics and mode are unchanged afterwards.
        sources: Where each image comes from, at least one.
        read: Reads an image (h, w, 3) uint8 BGR from its source; some are read twice, so that memory holds
            no more than a batch.
        normalisation: Normalisation of the model's input.
        batch_size: Images in a forward pass.
        blend: Blend to use without a trial, such as one that was chosen before; None to choose.

    Raises:
        ValueError: There are no images or no batch norm, or the blend is outside 0 to 1.
    """
    estimator, own = Estimator(model, normalisation), capture(model)
    batch: list[Image] = []
    for source in sources:
        image = read(source)
        if batch and (len(batch) == batch_size or batch[0].shape != image.shape):
            estimator.add(*batch)
            batch = []
        batch.append(image)
    if batch:
        estimator.add(*batch)
    if blend is not None:
        return Agreed(estimator.result(own, blend=blend), blend, {})
    checked = sources[:: max(1, math.ceil(len(sources) / _CHECKED))]
    found, tried = {}, {}
    try:
        for one in blends(len(sources)):
            found[one] = estimator.result(own, blend=one)
            apply(model, found[one])
            tried[one] = agreement(model, map(read, checked), normalisation)
    finally:
        apply(model, own)
    best = max((one for one in tried if one > 0), key=lambda one: (tried[one], -one))
    chosen = best if tried[best] >= tried[0.0] - MARGIN else 0.0
    return Agreed(found[chosen], chosen, tried)


def _classes(model: nn.Module, x: Tensor) -> Tensor:
    """The classes (N, h, W) of every few rows."""
    return logits(model, x)[:, :, ::_STEP].argmax(1)
