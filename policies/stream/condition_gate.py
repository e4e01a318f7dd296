"""May a condition's own statistics serve? Judged on frames that were segmented both ways."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Evidence", "GateRules", "Verdict", "judge"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GateRules:
    """What new statistics must show.

    Attributes:
        frames: frames to see before a verdict.
        labelled_frames: so many of them with labels make labels decide.
        max_confidence_drop: by how much mean confidence may fall where nothing is labelled.
        min_diversity: effective number of classes in the new masks, as a share of that in the old ones.
            Statistics that have gone wrong make a model sure of one class everywhere: confidence alone would
            call that a success.
        max_miou_drop: by how much agreement with the labels may fall.
        max_gap_rise: by how much confidence may lie farther off the share of pixels that are right.
    """

    frames: int = 8
    labelled_frames: int = 3
    max_confidence_drop: float = 0.01
    min_diversity: float = 0.7
    max_miou_drop: float = 0.0
    max_gap_rise: float = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What one way of segmenting the frames gave.

    Attributes:
        frames: how many.
        confidence: mean over them, 0 to 1.
        pixels: by class, how many were predicted.
        labelled: how many frames had labels.
        miou: on those; None without any.
        accuracy: share of their labelled pixels that were right; None without any.
        labelled_confidence: mean confidence on those frames; None without any.
    """

    frames: int
    confidence: float
    pixels: Sequence[int]
    labelled: int = 0
    miou: float | None = None
    accuracy: float | None = None
    labelled_confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to keep the statistics, and why, in words with figures."""

    keep: bool
    reason: str


def judge(rules: GateRules, new: Evidence, old: Evidence) -> Verdict | None:
    """Compare both ways; None while there are too few frames."""
    if new.frames < rules.frames:
        return None
    if new.labelled >= rules.labelled_frames and new.miou is not None and old.miou is not None:
        told = f"mIoU {old.miou:.3f} -> {new.miou:.3f} on {new.labelled} labelled frames"
        if new.miou < old.miou - rules.max_miou_drop:
            return Verdict(False, told)
        gap, before = _gap(new), _gap(old)
        if gap is not None and before is not None and gap > before + rules.max_gap_rise:
            return Verdict(False, f"{told}, but confidence is off by {gap:.3f} instead of {before:.3f}")
        return Verdict(True, told)
    told = f"confidence {old.confidence:.3f} -> {new.confidence:.3f} on {new.frames} frames without labels"
    if new.confidence < old.confidence - rules.max_confidence_drop:
        return Verdict(False, told)
    classes, before = effective_classes(new.pixels), effective_classes(old.pixels)
    if classes < rules.min_diversity * before:
        return Verdict(False, f"{told}, but only {classes:.1f} classes instead of {before:.1f}")
    return Verdict(True, told)


def effective_classes(pixels: Sequence[int]) -> float:
    """Exponential of the entropy of the classes' shares: 1 for one class, n for n equal ones; 0 for none."""
    total = sum(pixels)
    if total == 0:
        return 0.0
    return math.exp(-sum(n / total * math.log(n / total) for n in pixels if n))


def _gap(evidence: Evidence) -> float | None:
    if evidence.accuracy is None or evidence.labelled_confidence is None:
        return None
    return abs(evidence.labelled_confidence - evidence.accuracy)
