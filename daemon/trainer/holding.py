"""How a round that learns from corrections is held to what the live model knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dance_ondevice.conditions.learning import INTERPOLATION
from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.versions.base import is_untrained
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.training.losses import UNLABELLED, Distillation

if TYPE_CHECKING:
    from dance_ondevice.daemon.trainer.kinds import RoundKind

__all__ = ["held", "interpolations"]


def held(
    job: jobs.Job, kind: RoundKind, live: ModelCard, device: Literal["cpu", "cuda"]
) -> Distillation | None:
    """Hold the candidate to the live model on rehearsed samples, and where a correction says nothing.

    A person who corrects the live model's mask taps at what is wrong, so that these pixels are mistakes and
    nothing else; a candidate that learns from them alone unlearns what the live model does right.

    Args:
        job: The job of the round.
        kind: Its kind.
        live: Card of the live model.
        device: Where the round trains.

    Returns:
        The further term of the loss; None where nothing is to be held.
    """
    every = job.train + job.rehearsal
    old = range(len(job.train), len(every)) if job.distillation > 0 else range(0)
    corrected = _corrected(every, live)
    if not old and not corrected:
        return None
    teacher, _ = checkpoint.load(Path(job.live))
    kind.as_served(teacher)
    return Distillation(
        teacher.to(device), old, weight=job.distillation, corrected=corrected, unlabelled=UNLABELLED
    )


def interpolations(job: jobs.Job, live: ModelCard) -> tuple[float, ...]:
    """Return how far a round of the whole model goes from the live weights (0) to the trained ones (1).

    All of the way, and half of it where that costs a condition more than the gate allows. Half of it at once
    where most of what the round learns from was labelled by correction: a few pixels of each frame move a
    model well beyond what they say about it. A model that lost channels, or that had not learnt anything,
    needs all that it learns.

    Args:
        job: The job of the round.
        live: Card of the live model.

    Returns:
        The shares in the order in which they are tried; each is above 0 and at most 1.
    """
    every = job.train + job.rehearsal
    if job.target_macs is not None or not job.steps or is_untrained({"training": live.training}):
        return (1.0,)
    if 2 * len(_corrected(every, live)) > len(every):
        return (INTERPOLATION,)
    return (1.0,) if job.max_condition_drop is None else (1.0, INTERPOLATION)


def _corrected(samples: Sequence[jobs.JobSample], live: ModelCard) -> list[int]:
    """Numbers of the samples that somebody labelled by correcting the live model's mask.

    None for an untrained network: what it answers is noise, and nobody corrects that.
    """
    if is_untrained({"training": live.training}):
        return []
    return [number for number, each in enumerate(samples) if each.corrected]
