"""The slimming step of a round, in the trainer process; it adapts to the image sizes of the round."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dance_ondevice.daemon.children import jobs
from dance_ondevice.models import branches
from dance_ondevice.models.cost import count_macs, count_parameters
from dance_ondevice.policies.rounds import network_slimming
from dance_ondevice.slimming import slim as slimming
from dance_ondevice.slimming.groups import NotPrunable
from dance_ondevice.training import recalibration
from dance_ondevice.training.batches import TrainingSample, image_size

if TYPE_CHECKING:
    from torch import nn

    from dance_ondevice.models.card import Normalisation

log = logging.getLogger(__name__)

#: Samples whose size is read, and batches from which statistics are re-estimated; more change the result
#: little.
_SIZES, _BATCHES = 64, 8


def slim_candidate(
    model: nn.Module,
    job: jobs.Job,
    samples: Sequence[TrainingSample],
    normalisation: Normalisation,
    companions: Sequence[nn.Module] = (),
) -> jobs.Slimmed:
    """Slim a round's candidate to the job's target MACs, and update its normalisation statistics.

    The share of channels that each multi-scale branch loses depends on the sizes of the images that the round
    trains on. A model that cannot be slimmed is left as it is, with a note that says why. ``companions`` lose
    the same channels.
    """
    if job.target_macs is None:
        raise ValueError("this job does not slim")
    shares = network_slimming.branch_shares(_mean_scale(samples, job.size), branches.contexts_of(model))
    try:
        report = slimming.slim(
            model, target_macs=job.target_macs, size=job.size, shares=shares, companions=companions
        )
    except NotPrunable as error:
        macs, parameters = count_macs(model, *job.size), count_parameters(model)
        return jobs.Slimmed(
            macs_before=macs,
            macs_after=macs,
            parameters_before=parameters,
            parameters_after=parameters,
            note=f"trained unslimmed: {error}",
        )
    batches = recalibration.clean_batches(
        samples, normalisation, batch_size=job.batch_size, most=_BATCHES, seed=job.seed
    )
    layers = recalibration.recalibrate(model, batches)
    log.info(
        "recalibrated layers=%d shares=%s", layers, {name: round(share, 3) for name, share in shares.items()}
    )
    return jobs.Slimmed(
        macs_before=report.macs_before,
        macs_after=report.macs_after,
        parameters_before=report.parameters_before,
        parameters_after=report.parameters_after,
    )


def _mean_scale(samples: Sequence[TrainingSample], size: tuple[int, int]) -> float:
    """Mean side of the training images relative to the size that the model is meant for, at most 1."""
    histogram: dict[float, float] = {}
    for sample in samples[:: math.ceil(len(samples) / _SIZES)]:
        height, width = image_size(sample)
        scale = min(1.0, sample.scale * math.sqrt(height * width / (size[0] * size[1])))
        histogram[scale] = histogram.get(scale, 0.0) + 1.0
    return network_slimming.mean_scale(histogram)
