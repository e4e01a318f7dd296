"""Gate for a condition's own statistics, judged on frames that were segmented with and without them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Evidence", "GateRules", "Verdict", "judge"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GateRules:
    """Limits that new statistics must meet.

    Attributes:
        frames: Number of frames before a verdict.
        labelled_frames: Number of labelled frames among them from which labels decide.
        max_confidence_drop: Allowed fall of mean confidence without labels.
        min_diversity: Least effective number of classes in the new masks, as a share of that in the old ones.
            Wrong statistics make a model sure of one class everywhere, which confidence alone would count as
            a success.
        max_miou_drop: Allowed fall of mIoU on the labels.
        max_gap_rise: Allowed rise of the difference between confidence and the share of right pixels.
    """

    frames: int = 8
    labelled_frames: int = 3
    max_confidence_drop: float = 0.01
    min_diversity: float = 0.7
    max_miou_drop: float = 0.0
    max_gap_rise: float = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Results of the frames with one set of statistics.

    Attributes:
        frames: Number of frames.
        confidence: Mean confidence over them, 0 to 1.
        pixels: Number of predicted pixels by class.
        labelled: Number of frames with labels.
        miou: mIoU on the labelled frames; None without any.
        accuracy: Share of their labelled pixels that were right; None without any.
        labelled_confidence: Mean confidence on the labelled frames; None without any.
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
    """Decision whether to keep the statistics, and the reason in words with figures."""

    keep: bool
    reason: str


def judge(rules: GateRules, new: Evidence, old: Evidence) -> Verdict | None:
    """Compare new statistics with the old ones; None while there are too few frames."""
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
    """Return the exponential entropy of the classes: 1 for one class, n for n equal ones, 0 for none."""
    total = sum(pixels)
    if total == 0:
        return 0.0
    return math.exp(-sum(n / total * math.log(n / total) for n in pixels if n))


def _gap(evidence: Evidence) -> float | None:
    if evidence.accuracy is None or evidence.labelled_confidence is None:
        return None
    return abs(evidence.labelled_confidence - evidence.accuracy)
