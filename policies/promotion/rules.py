"""What the promotion gate judges by, and its verdict, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dance_ondevice.policies.promotion.bootstrap import Comparison

__all__ = ["ROUNDING", "GateRules", "Group", "Outcome", "Scores", "Speed", "Verdict"]

Outcome = Literal["promoted", "rejected"]

#: Differences below this are rounding: 0.45 - 0.40 is less than 0.05 in binary.
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Scores of one model on the held-out samples, from one confusion matrix over all of them.

    Attributes:
        miou: Mean intersection over union, as a fraction of 1.
        iou_per_class: IoU by class, as a fraction of 1; None for a class in neither labels nor predictions.
        pixels_per_class: Labelled pixels by class.
        samples: Number of scored samples.
    """

    miou: float
    iou_per_class: tuple[float | None, ...]
    pixels_per_class: tuple[int, ...]
    samples: int


@dataclass(frozen=True, slots=True)
class GateRules:
    """Limits that a candidate must meet.

    Attributes:
        min_gain: Least gain of mIoU, as a fraction of 1; negative allows a loss.
        max_class_drop: Largest loss of IoU of a class, as a fraction of 1.
        min_class_pixels: Least number of labelled pixels of a class for it to be judged on its own; fewer are
            noise.
        slim_tolerance: Distance by which the lower bound of the gain may lie below `min_gain` if the
            candidate needs fewer MACs.
        max_condition_drop: Largest loss of mIoU of one condition, as a fraction of 1.
        min_group_units: Least number of blocks (or samples) of a condition for bounds; with fewer its figure
            decides.
        max_latency_ratio: Largest time for a mask, as a multiple of the live model's.
    """

    min_gain: float = 0.0
    max_class_drop: float = 0.05
    min_class_pixels: int = 1000
    slim_tolerance: float = 0.02
    max_condition_drop: float = 0.02
    min_group_units: int = 4
    max_latency_ratio: float = 1.25


@dataclass(frozen=True, slots=True)
class Group:
    """The held-out samples of one condition (or camera, or age), compared on their own.

    Attributes:
        name: Its name, for the reasons.
        comparison: The comparison.
        lasting: Whether the next round has a group of this name with the same kind of samples.
    """

    name: str
    comparison: Comparison
    lasting: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Cost of a mask: milliseconds of one core on the same frame, and MACs; 0 where it was not measured."""

    live_ms: float = 0.0
    candidate_ms: float = 0.0
    live_macs: int = 0
    candidate_macs: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of the gate, its reasons in words, and whether a lack of held-out labels alone rejected."""

    outcome: Outcome
    reasons: tuple[str, ...]
    decidable: bool = False
