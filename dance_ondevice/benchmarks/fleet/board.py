"""One board while it learns: its folder holds its live model, and its scene what it learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dance_ondevice.benchmarks.fleet.report import Judgement
from dance_ondevice.benchmarks.fleet.scenes import Fleet, Scene
from dance_ondevice.fleet.layers import Array
from dance_ondevice.models import checkpoint
from dance_ondevice.models.cost import count_macs
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.evaluation import evaluate
from dance_ondevice.training.recalibration import clean_batches, recalibrate

__all__ = ["BATCH", "LearningBoard", "Matrix", "counts", "recalibrated"]

Matrix = NDArray[np.int64]

BATCH = 8
_BATCHES = 4


@dataclass
class LearningBoard:
    """One board.

    Attributes:
        scene: What it learns from, judges by and is measured on.
        folder: Its live model.
        apart: Whether it is in no mean: its labels are wrong, or it takes no part.
        base: Number of the fleet version that its model descends from.
        offered: That version with the values of its last offer, if it has offered since.
        macs: Of training, estimation and judging so far; ``fleet_macs`` is the fleet's part.
    """

    scene: Scene
    folder: Path
    apart: bool = False
    base: int = 0
    offered: Mapping[str, Array] | None = None
    macs: int = 0
    fleet_macs: int = 0
    sent: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)


def counts(fleet: Fleet, folder: Path, samples: tuple[TrainingSample, ...]) -> Matrix:
    """The confusion matrix of a model on samples."""
    model, card = checkpoint.load(folder)
    found: Matrix = evaluate(model, samples, card.normalisation, len(fleet.classes))
    return found


def recalibrated(fleet: Fleet, model: torch.nn.Module, board: LearningBoard, folder: Path, seed: int) -> int:
    """Estimate a model's statistics on the board's images and save it; returns the multiply-accumulates.

    Args:
        fleet: The fleet.
        model: The model, changed in place.
        board: The board.
        folder: Where the model's card is, and where it is saved.
        seed: Of the order of images.
    """
    card = checkpoint.load(folder)[1]
    batches = list(
        clean_batches(board.scene.teach, card.normalisation, batch_size=BATCH, most=_BATCHES, seed=seed)
    )
    recalibrate(model, batches)
    checkpoint.save(folder, model, card)
    return sum(len(batch) for batch in batches) * count_macs(model, *fleet.seen)
