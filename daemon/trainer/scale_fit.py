"""The fit of a round: what its candidate loses on smaller images, learnt from labelled samples."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
from torch import nn

from dance_ondevice.complexity import grey_reduction
from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.trainer.serving import Serving
from dance_ondevice.daemon.trainer.sift import sample_of
from dance_ondevice.images.codec import decode_grey
from dance_ondevice.images.headers import ImageError, probe
from dance_ondevice.learnt_loss import LossWeights, describe, judged_fit
from dance_ondevice.models.card import ModelCard
from dance_ondevice.training.batches import SampleError, read_image, read_label
from dance_ondevice.training.evaluation import look

__all__ = ["with_scale_loss"]

#: The fewest samples and groups of them; fewer say nothing about frames that were not learnt from.
_LEAST_SAMPLES, _LEAST_GROUPS = 24, 3


def with_scale_loss(card: ModelCard, model: nn.Module, job: jobs.Job, serving: Serving) -> ModelCard:
    """Return the card with the loss on smaller images as this round has learnt it.

    Where the job asks for no fit, or has too few samples for one, the card keeps what it has from its parent.

    Args:
        card: Card of the candidate.
        model: The candidate; it is left unchanged.
        job: The job of the round.
        serving: The statistics of each condition.
    """
    if job.scale_fit is None:
        return card
    learnt = _learn(job.scale_fit, card, model, job, serving)
    return card if learnt is None else dataclasses.replace(card, scale_loss=learnt)


def _learn(
    fit: jobs.ScaleFit, card: ModelCard, model: nn.Module, job: jobs.Job, serving: Serving
) -> LossWeights | None:
    descriptions, losses, groups = [], [], []
    with serving.on(model) as apply:
        for sample, group in zip(fit.samples, fit.groups, strict=True):
            apply(sample.condition)
            try:
                stored = sample_of(sample)
                image, label = read_image(stored), read_label(stored, job.n_classes)
                data = stored.image.read_bytes()
                info = probe(data)
                grey = decode_grey(data, grey_reduction(info.height, info.width))
            except (SampleError, ImageError, OSError) as error:  # it may be evicted while the round runs
                print(f"left out of the fit of scales: {error}", file=sys.stderr)
                continue
            seen = look(
                model,
                image,
                label,
                scales=fit.scales,
                normalisation=card.normalisation,
                n_classes=job.n_classes,
            )
            descriptions.append(describe(grey))
            losses.append([seen.loss(scale) for scale in fit.scales])
            groups.append(group)
    if len(losses) < _LEAST_SAMPLES or len(set(groups)) < _LEAST_GROUPS:
        print(
            f"no fit of scales: {len(losses)} labelled samples at full size of {len(set(groups))} times and "
            f"lights, needed are {_LEAST_SAMPLES} of {_LEAST_GROUPS}",
            file=sys.stderr,
        )
        return None
    found = judged_fit(np.stack(descriptions), np.array(losses), fit.scales, groups)
    return dataclasses.replace(found, origin=job.round)
