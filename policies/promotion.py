"""Promotion: may the candidate of a round replace the live model, and the figures that say why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["GateRules", "Outcome", "Scores", "Verdict", "judge"]

Outcome = Literal["promoted", "rejected"]

#: Differences below this are rounding: 0.45 - 0.40 is less than 0.05 in binary.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """How one model did on the held-out samples, from one confusion matrix over all of them.

    Attributes:
        miou: mean intersection over union, as a fraction of 1.
        iou_per_class: as a fraction of 1, None for a class in neither truth nor prediction.
        pixels_per_class: pixels of the truth.
        samples: how many were scored.
    """

    miou: float
    iou_per_class: tuple[float | None, ...]
    pixels_per_class: tuple[int, ...]
    samples: int


@dataclass(frozen=True, slots=True)
class GateRules:
    """What a candidate must meet.

    Attributes:
        min_gain: mIoU that it must gain at least, as a fraction of 1; negative allows a loss.
        max_class_drop: IoU that a class may lose at most, as a fraction of 1.
        min_class_pixels: a class with fewer pixels of truth is noise and rejects nothing on its own.
    """

    min_gain: float = 0.0
    max_class_drop: float = 0.05
    min_class_pixels: int = 1000


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, and every reason for it in words."""

    outcome: Outcome
    reasons: tuple[str, ...]


def judge(
    live: Scores, candidate: Scores, rules: GateRules, slimmed: bool, classes: Sequence[str] = ()
) -> Verdict:
    """Compare a candidate with the live model on the same held-out samples.

    It is promoted when its mIoU gains at least `rules.min_gain` and no class with enough pixels loses more
    than `rules.max_class_drop`: with the default rules an equal mIoU is enough, since a slimmed candidate
    then does the same work for fewer joules. A better figure of the candidate never turns a promotion into a
    rejection. Scores that are empty, not numbers, or not of the same samples reject it.

    Args:
        live: scores of the live model.
        candidate: scores of the candidate.
        rules: what the user asks for.
        slimmed: whether the candidate has fewer MACs than the live model.
        classes: names of the classes, for the reasons; their ids are used without.
    """
    unusable = _unusable(live, candidate)
    if unusable:
        return Verdict("rejected", tuple(unusable))
    gain = candidate.miou - live.miou
    figures = (
        f"mIoU {live.miou:.3f} -> {candidate.miou:.3f} ({gain:+.3f}) on {live.samples} held-out "
        f"{'sample' if live.samples == 1 else 'samples'}"
    )
    reasons: list[str] = []
    if gain < rules.min_gain - _ROUNDING:
        reasons.append(f"{figures}: at least {rules.min_gain:+.3f} is asked for")
    drops = _drops(live, candidate, rules.min_class_pixels)
    for index, before, after in drops:
        if before - after > rules.max_class_drop + _ROUNDING:
            reasons.append(
                f"class {_name(index, classes)} fell from {before:.3f} to {after:.3f} "
                f"({after - before:+.3f}), at most {-rules.max_class_drop:+.3f} is allowed"
            )
    if reasons:
        return Verdict("rejected", tuple(reasons))
    return Verdict("promoted", _merits(figures, drops, rules, slimmed, classes))


def _merits(
    figures: str,
    drops: Sequence[tuple[int, float, float]],
    rules: GateRules,
    slimmed: bool,
    classes: Sequence[str],
) -> tuple[str, ...]:
    merits = [f"{figures}: at least {rules.min_gain:+.3f} was asked for"]
    if drops:
        index, before, after = min(drops, key=lambda drop: drop[2] - drop[1])
        merits.append(
            f"no class fell by more than {rules.max_class_drop:.3f}: the least favoured, "
            f"{_name(index, classes)}, went from {before:.3f} to {after:.3f} ({after - before:+.3f})"
        )
    else:
        merits.append(f"no class has the {rules.min_class_pixels} held-out pixels to be judged on its own")
    if slimmed:
        merits.append("it needs fewer MACs than the live model")
    return tuple(merits)


def _unusable(live: Scores, candidate: Scores) -> list[str]:
    """Why the two cannot be compared at all."""
    problems: list[str] = []
    if live.samples < 1 or candidate.samples < 1 or not any(live.pixels_per_class):
        problems.append("no held-out samples to judge on")
    if live.samples != candidate.samples or live.pixels_per_class != candidate.pixels_per_class:
        problems.append(
            f"scored on different samples: the live model on {live.samples} with "
            f"{sum(live.pixels_per_class)} pixels, the candidate on {candidate.samples} with "
            f"{sum(candidate.pixels_per_class)}"
        )
    for who, scores in (("live model", live), ("candidate", candidate)):
        values = [scores.miou, *(value for value in scores.iou_per_class if value is not None)]
        wrong = sorted({f"{value:g}" for value in values if not _is_fraction(value)})
        if wrong:
            problems.append(f"the {who} has scores that are no fraction of 1: {', '.join(wrong)}")
        if len(scores.iou_per_class) != len(scores.pixels_per_class):
            problems.append(
                f"the {who} has scores for {len(scores.iou_per_class)} classes, "
                f"the labels have {len(scores.pixels_per_class)}"
            )
    return problems


def _drops(live: Scores, candidate: Scores, min_pixels: int) -> list[tuple[int, float, float]]:
    """(class id, IoU before, IoU after) of the classes with enough pixels of truth."""
    rows = zip(live.iou_per_class, candidate.iou_per_class, live.pixels_per_class, strict=True)
    # A class with pixels of truth always has an IoU; one without a figure counts as 0, to the candidate's
    # cost.
    return [
        (index, before or 0.0, after or 0.0)
        for index, (before, after, pixels) in enumerate(rows)
        if pixels >= max(1, min_pixels)
    ]


def _is_fraction(value: float) -> bool:
    return math.isfinite(value) and -_ROUNDING <= value <= 1.0 + _ROUNDING


def _name(index: int, classes: Sequence[str]) -> str:
    return classes[index] if index < len(classes) else str(index)
