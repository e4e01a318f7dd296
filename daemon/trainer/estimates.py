"""Estimates a model's statistics of normalisation on this board's own images, for values from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from dance_ondevice.daemon.children.jobs import JobSample
from dance_ondevice.daemon.trainer.sift import fault, sample_of
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.models.card import Normalisation
from dance_ondevice.training.recalibration import clean_batches, recalibrate

__all__ = ["IMAGES", "estimate"]

_BATCH = 8
#: Images that statistics are estimated from at most: as many as were measured to suffice (`bench fleet`).
IMAGES = 8 * _BATCH


def estimate(
    model: nn.Module, samples: Sequence[JobSample], normalisation: Normalisation, seed: int = 0
) -> None:
    """Estimate the statistics of a model in place.

    Raises:
        ValueError: No sample can be read.
    """
    readable = [sample_of(each) for each in samples if fault(each, IGNORE) is None]
    batch = max(1, min(_BATCH, len(readable)))
    batches = clean_batches(readable, normalisation, batch_size=batch, most=IMAGES // batch, seed=seed)
    recalibrate(model, batches)
