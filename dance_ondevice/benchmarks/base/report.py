"""The result of ``bench base``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Score:
    """mIoU over a split and IoU by class, in [0, 1]; None for a class in neither labels nor masks."""

    split: str
    images: int
    miou: float
    iou_per_class: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The result of one round with one seed.

    Attributes:
        start: Weights that the round started from, "base" or "noise".
        learning_rate: Learning rate of the round, 0 where nothing was trained.
        labels: Number of labelled images; with 0 only the statistics of batch normalisation are estimated
            again, from unlabelled images.
        seed: Seed of the choice of labels, of their order and of the fresh weights.
        steps: Optimiser steps of the round.
        training_macs: Multiply-accumulates of the round.
        cpu_seconds: CPU seconds of the round.
        scores: Scores after the round, one for each split.
    """

    start: str
    learning_rate: float
    labels: int
    seed: int
    steps: int
    training_macs: int
    cpu_seconds: float
    scores: list[Score]


@dataclass(frozen=True, kw_only=True)
class Site:
    """One data set, used as a site whose images the base was not trained on.

    Attributes:
        name: Name of the data set.
        classes: Class names of the data set in the order of their ids.
        data: Description of the images for training and for evaluation.
        size: (height, width) of the network's input.
        mapping: Class of the base -> class of this data set, for the base without training.
        as_it_is: Scores of the base without training.
        trained: Results of all rounds.
    """

    name: str
    classes: list[str]
    data: str
    size: tuple[int, int]
    mapping: dict[str, str]
    as_it_is: list[Score]
    trained: list[Trained]


@dataclass(frozen=True, kw_only=True)
class BaseReport:
    """Everything that was measured.

    Attributes:
        version: Version of the base.
        architecture: Name of its network.
        parameters: Number of its parameters.
        file_bytes: Size of its file of weights.
        made: How it was trained, from its card.
        steps: Optimiser steps of each round, the same for all so that they take the same joules.
        batch_size: Images in each step.
        sites: Results for each data set.
    """

    version: str
    architecture: str
    parameters: int
    file_bytes: int
    made: dict[str, Any]
    steps: int
    batch_size: int
    sites: list[Site]
