"""The result of ``bench base``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Score:
    """mIoU over a split and IoU by class, fractions of 1; None for a class that is nowhere."""

    split: str
    images: int
    miou: float
    iou_per_class: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One start after one round on some labels, one seed.

    Attributes:
        start: "base" or "noise".
        learning_rate: of the round, 0 where nothing was trained.
        labels: how many labelled images it had; with 0 the statistics of batch normalisation are estimated
            again from unlabelled images, and nothing else.
        seed: decides the labels, the order and the fresh weights.
        steps, training_macs, cpu_seconds: what the round took.
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
    """One data set, standing for a site that the base has never seen.

    Attributes:
        data: which images were learnt from and measured on.
        size: (height, width) that the network saw.
        mapping: class of the base -> class of this data set, for the base as it is.
        as_it_is: the base, untouched.
        trained: every round.
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
        version: of the base, with ``made`` from its card.
        steps, batch_size: of each round, so that all rounds of a site take the same joules.
    """

    version: str
    architecture: str
    parameters: int
    file_bytes: int
    made: dict[str, Any]
    steps: int
    batch_size: int
    sites: list[Site]
