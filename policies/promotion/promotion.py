"""Promotion: may the candidate of a round replace the live model, and the figures that say why.

What is asked for, all of it:

- mIoU on the held-out samples gains at least `min_gain`, and not by luck: the lower bound of a paired
  bootstrap over blocks of time (see `bootstrap`) passes `min_gain`, too. A candidate that needs fewer MACs is
  worth having when it is merely as good, which no number of samples ever proves; its lower bound may lie
  below by `slim_tolerance`, while the gain itself must still reach `min_gain`, so that many small steps down
  do not add up unseen.
- No class falls by more than `max_class_drop`, unless the fall may well be noise: a class of few pixels
  differs by more than that between any two trainings.
- No condition falls by more than `max_condition_drop`. It counts as fallen when its figure did, and either
  the bootstrap agrees (the upper bound of its change is below 0) or there are fewer than `min_group_units`
  blocks or samples to bound it with: a bound over two or three proves nothing either way, and an old scene of
  few held-out samples must not go for want of proof. Its figure may then fall by as much more as that of so
  few varies more, by the root of how many are missing.
- Masks do not take `max_latency_ratio` times as long, and no more MACs than before.

While the live model is untrained none of this holds but the gain in mIoU itself: what it paints says nothing,
so there is no class or condition to keep, and nothing is lost where the gain was luck.

With fewer than two held-out samples there is nothing to draw from: the figures decide as they are, and
probation (see `probation`) is what catches a mistake. Few samples make bounds wide but never forbid promotion
as such: a gain that is large against its spread passes with three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dance_ondevice.policies.promotion.bootstrap import Bounded, Comparison

__all__ = [
    "STEADY_SAMPLES",
    "GateRules",
    "Group",
    "Outcome",
    "Scores",
    "Speed",
    "Verdict",
    "judge",
    "steadier",
]

Outcome = Literal["promoted", "rejected"]

#: Held-out samples from which on a verdict no longer hangs on a few frames; fewer are told of in a rejection.
STEADY_SAMPLES = 20
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
        slim_tolerance: by how much the lower bound of the gain may lie below `min_gain` where the candidate
            needs fewer MACs.
        max_condition_drop: mIoU that one condition may lose at most, as a fraction of 1.
        min_group_units: a condition with fewer blocks (or samples) to draw from is judged by its figure.
        max_latency_ratio: how many times as long as the live model's a mask may take.
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
    """The held-out samples of one condition (or camera, or age), compared on their own."""

    name: str
    comparison: Comparison


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """What a mask takes, in milliseconds of one core on the same frame; 0 where it was not measured."""

    live_ms: float = 0.0
    candidate_ms: float = 0.0
    live_macs: int = 0
    candidate_macs: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, and every reason for it in words."""

    outcome: Outcome
    reasons: tuple[str, ...]


def judge(
    live: Scores,
    candidate: Scores,
    rules: GateRules,
    slimmed: bool,
    classes: Sequence[str] = (),
    *,
    comparison: Comparison | None = None,
    groups: Sequence[Group] = (),
    speed: Speed | None = None,
    untrained_live: bool = False,
) -> Verdict:
    """Compare a candidate with the live model on the same held-out samples.

    A better figure of the candidate never turns a promotion into a rejection. Scores that are empty, not
    numbers, or not of the same samples reject it.

    Args:
        live: scores of the live model.
        candidate: scores of the candidate.
        rules: what the user asks for.
        slimmed: whether the candidate has fewer MACs than the live model.
        classes: names of the classes, for the reasons; their ids are used without.
        comparison: the same sample by sample; without it the figures decide as they are.
        groups: the conditions among the held-out samples.
        speed: what masks take.
        untrained_live: whether the live model has not learnt anything yet: the gain in mIoU alone decides.
    """
    unusable = _unusable(live, candidate)
    if unusable:
        return Verdict("rejected", tuple(unusable))
    gain = Bounded(candidate.miou - live.miou) if comparison is None else comparison.gain
    figures = (
        f"mIoU {live.miou:.3f} -> {candidate.miou:.3f} ({candidate.miou - live.miou:+.3f}) on {live.samples} "
        f"held-out {'sample' if live.samples == 1 else 'samples'}"
    )
    least = rules.min_gain - (rules.slim_tolerance if slimmed else 0.0)
    reasons: list[str] = []
    if candidate.miou - live.miou < rules.min_gain - _ROUNDING:
        reasons.append(f"{figures}: at least {rules.min_gain:+.3f} is asked for")
    elif untrained_live:
        gained = f"{figures}: at least {rules.min_gain:+.3f} was asked for"
        return Verdict("promoted", (gained, "the live model is untrained, so the gain in mIoU alone decided"))
    elif gain.at_least() < least - _ROUNDING:
        reasons.append(
            f"{figures}: it may be luck, the lower bound of the gain is {gain.at_least():+.3f} and at least "
            f"{least:+.3f} is asked for"
        )
    if untrained_live:
        return Verdict("rejected", (*reasons, *steadier(live.samples)))
    drops = _drops(live, candidate, rules.min_class_pixels)
    for index, before, after in drops:
        if before - after > rules.max_class_drop + _ROUNDING and not _may_be_noise(comparison, index):
            reasons.append(
                f"class {_name(index, classes)} fell from {before:.3f} to {after:.3f} "
                f"({after - before:+.3f}), at most {-rules.max_class_drop:+.3f} is allowed"
            )
    reasons.extend(_fallen_groups(groups, rules))
    reasons.extend(_too_slow(speed, rules))
    if reasons:
        return Verdict("rejected", (*reasons, *steadier(live.samples)))
    merits = _merits(figures, drops, rules, slimmed, classes)
    if comparison is not None:
        merits = (merits[0] + _bound_in_words(comparison), *merits[1:])
    return Verdict("promoted", merits)


def steadier(samples: int) -> tuple[str, ...]:
    """What would make a verdict on so few held-out samples steadier."""
    if samples >= STEADY_SAMPLES:
        return ()
    counted = "1 held-out sample" if samples == 1 else f"{samples} held-out samples"
    return (f"{counted} judged this; {STEADY_SAMPLES} make it steadier: label more frames",)


def _bound_in_words(comparison: Comparison) -> str:
    if comparison.gain.lower is None:
        return "; too few samples for bounds, so the figures decided as they are"
    return (
        f"; the lower bound of the gain is {comparison.gain.lower:+.3f} "
        f"over {comparison.units} {comparison.unit}s"
    )


def _may_be_noise(comparison: Comparison | None, index: int) -> bool:
    """Whether a class that fell did not fall in a fair share of the draws."""
    if comparison is None or index >= len(comparison.classes):
        return False
    change = comparison.classes[index]
    return change is not None and change.upper is not None and change.upper >= 0.0


def _fallen_groups(groups: Sequence[Group], rules: GateRules) -> list[str]:
    if len(groups) < 2:  # the whole is judged already
        return []
    fallen = [group for group in groups if _fallen(group.comparison, rules)]
    return [
        f"{group.name} fell from mIoU {group.comparison.live:.3f} to {group.comparison.candidate:.3f} "
        f"({group.comparison.gain.point:+.3f}), at most {-_may_fall(group.comparison, rules):+.3f} is allowed"
        for group in fallen
    ]


def _fallen(group: Comparison, rules: GateRules) -> bool:
    """Whether a condition fell too far, and not by luck as far as its samples tell."""
    if group.gain.point >= -_may_fall(group, rules) - _ROUNDING:
        return False
    return group.units < rules.min_group_units or group.gain.at_most() < 0.0


def _may_fall(group: Comparison, rules: GateRules) -> float:
    """What a condition's figure may lose: a mean of fewer varies more, by the root."""
    return rules.max_condition_drop * math.sqrt(max(1.0, rules.min_group_units / max(1, group.units)))


def _too_slow(speed: Speed | None, rules: GateRules) -> list[str]:
    if speed is None:
        return []
    problems: list[str] = []
    if speed.live_ms > 0.0 and speed.candidate_ms > speed.live_ms * rules.max_latency_ratio:
        problems.append(
            f"a mask takes {speed.candidate_ms:.1f} ms of a core, with the live model "
            f"{speed.live_ms:.1f} ms: at most {rules.max_latency_ratio:g} times as long is allowed"
        )
    if speed.live_macs > 0 and speed.candidate_macs > speed.live_macs:
        problems.append(
            f"it needs {speed.candidate_macs:,} MACs, more than the {speed.live_macs:,} of the live model"
        )
    return problems


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
        fallen = before - after > rules.max_class_drop + _ROUNDING
        merits.append(
            f"no class fell by more than {rules.max_class_drop:.3f}{' beyond noise' if fallen else ''}: the "
            f"least favoured, {_name(index, classes)}, went from {before:.3f} to {after:.3f} "
            f"({after - before:+.3f})"
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
