"""Which pixels of a round are held to the live model's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.trainer.kinds import RoundKind
from dance_ondevice.daemon.versions.base import is_untrained
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.training.losses import UNLABELLED, Distillation

__all__ = ["held"]


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
    # What an untrained network answers is noise, and nobody corrects that.
    trained = not is_untrained({"training": live.training})
    corrected = [index for index, each in enumerate(every) if each.corrected and trained]
    if not old and not corrected:
        return None
    teacher, _ = checkpoint.load(Path(job.live))
    kind.as_served(teacher)
    return Distillation(
        teacher.to(device), old, weight=job.distillation, corrected=corrected, unlabelled=UNLABELLED
    )
