"""Promotion gate: may the candidate of a round replace the live model, and the figures that say why.

A candidate must meet all of these:

- mIoU on the held-out samples gains at least `min_gain`, and not by chance: the lower bound of a paired
  bootstrap over blocks of time (see `bootstrap`) passes `min_gain`, too. A candidate that needs fewer MACs is
  worth having if it is equally good, which no number of samples ever proves; its lower bound may lie
  below by `slim_tolerance`, while the gain itself must still reach `min_gain`, so that many small losses
  do not add up.
- No class falls by more than `max_class_drop`, unless the fall may well be noise: a class of few pixels
  differs by more than that between any two trainings.
- No condition falls by more than `max_condition_drop`. It counts as fallen when its figure did, and either
  the bootstrap agrees (the upper bound of its change is below 0) or there are fewer than `min_group_units`
  blocks or samples to bound it with: a bound over two or three proves nothing either way, and an old scene of
  few held-out samples must not get worse for lack of proof. The allowed fall then grows with the spread of a
  mean over so few, by the root of min_group_units over their number.
- Neither a class nor a condition falls by more than that over several promotions, since it last rose (see
  `erosion`).
- Masks do not take `max_latency_ratio` times as long, and no more MACs than before.

While the live model is untrained only the gain in mIoU itself is required: its masks are meaningless, so
there is no class or condition to keep, and nothing is lost if the gain was chance.

With fewer than two held-out samples there are no bounds: the figures decide as they are, and probation (see
`probation`) catches a mistake. Few samples make bounds wide but do not forbid promotion by themselves: a gain
that is large against its spread passes with three.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from dance_ondevice.policies.promotion.bootstrap import Bounded, Comparison
from dance_ondevice.policies.promotion.erosion import Fall
from dance_ondevice.policies.promotion.losses import (
    Drop,
    counted,
    drops,
    fallen,
    fallen_classes,
    fallen_groups,
    name_of,
)
from dance_ondevice.policies.promotion.rules import ROUNDING, GateRules, Group, Scores, Speed, Verdict

__all__ = ["STEADY_SAMPLES", "judge", "steadier", "units_to_decide"]

#: Held-out samples from which on a verdict no longer hangs on a few frames; fewer are told of in a rejection.
STEADY_SAMPLES = 20
#: More units than anybody would label to have a verdict.
_MOST_MORE = 200


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
    fallen_before: Mapping[str, Fall] = MappingProxyType({}),
    untrained_live: bool = False,
    measure: str = "mIoU",
) -> Verdict:
    """Compare a candidate with the live model on the same held-out samples.

    A better figure of the candidate never turns a promotion into a rejection. Scores that are empty, not
    numbers, or not of the same samples reject it.

    Args:
        live: Scores of the live model.
        candidate: Scores of the candidate.
        rules: Limits from the configuration.
        slimmed: True if the candidate has fewer MACs than the live model.
        classes: Names of the classes for the reasons; empty for their ids.
        comparison: Comparison sample by sample, with bounds; None lets the figures decide as they are.
        groups: Comparisons of the conditions among the held-out samples.
        speed: Time and MACs of a mask; None if they were not measured.
        fallen_before: What the live model lost on its way, see `losses.falls_after`.
        untrained_live: True if the live model is untrained, so that the gain in mIoU alone decides.
        measure: What the scores are called in the reasons.
    """
    unusable = _unusable(live, candidate)
    if unusable:
        return Verdict("rejected", tuple(unusable))
    gain = Bounded(candidate.miou - live.miou) if comparison is None else comparison.gain
    figures = (
        f"{measure} {live.miou:.3f} -> {candidate.miou:.3f} ({candidate.miou - live.miou:+.3f}) on "
        f"{live.samples} held-out {'sample' if live.samples == 1 else 'samples'}"
    )
    least = rules.min_gain - (rules.slim_tolerance if slimmed else 0.0)
    reasons: list[str] = []
    lacks = 0  # reasons that more held-out labels might lift
    if candidate.miou - live.miou < rules.min_gain - ROUNDING:
        reasons.append(f"{figures}: at least {rules.min_gain:+.3f} is required")
    elif untrained_live:
        gained = f"{figures}: at least {rules.min_gain:+.3f} was required"
        return Verdict(
            "promoted", (gained, f"the live model is untrained, so the gain in {measure} alone decided")
        )
    elif gain.at_least() < least - ROUNDING:
        lacks += 1
        reasons.append(
            f"{figures}: it may be chance, the lower bound of the gain is {gain.at_least():+.3f} and must be "
            f"at least {least:+.3f}{_would_decide(comparison, least)}"
        )
    if untrained_live:
        return Verdict("rejected", (*reasons, *steadier(live.samples)))
    found = drops(live, candidate, rules.min_class_pixels)
    reasons.extend(fallen_classes(found, rules, classes, comparison, fallen_before))
    reasons.extend(fallen_groups(groups, rules, fallen_before, measure))
    lacks += sum(g.comparison.units < rules.min_group_units for g, _ in fallen(groups, rules, fallen_before))
    reasons.extend(_too_slow(speed, rules))
    if reasons:
        return Verdict("rejected", (*reasons, *steadier(live.samples)), len(reasons) == lacks)
    merits = _merits(figures, found, rules, slimmed, classes)
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


def units_to_decide(comparison: Comparison, least: float) -> int | None:
    """Return how many more units like these would bring the lower bound of the gain up to a limit.

    The bound approaches the gain with the root of the number of units, as the spread of a mean does.

    Args:
        comparison: The comparison, whose gain is above the limit and its lower bound below.
        least: The limit, as a fraction of 1.

    Returns:
        None if no number of them would, or more than anybody would label.
    """
    gain = comparison.gain
    margin = gain.point - least
    if gain.lower is None or gain.lower >= least or margin <= 0.0:
        return None
    wider = (gain.point - gain.lower) / margin
    if not wider < _MOST_MORE:  # a margin of nearly nothing: its square is no number any more
        return None
    more = comparison.units * (wider**2 - 1.0)
    # Rounding may make of a bound just below the limit no unit at all.
    return max(1, math.ceil(more)) if more <= _MOST_MORE else None


def _would_decide(comparison: Comparison | None, least: float) -> str:
    more = None if comparison is None else units_to_decide(comparison, least)
    if comparison is None or more is None:
        return ""
    return f"; about {counted(more, f'more held-out {comparison.unit}')} like these would decide"


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
    found: Sequence[Drop],
    rules: GateRules,
    slimmed: bool,
    classes: Sequence[str],
) -> tuple[str, ...]:
    merits = [f"{figures}: at least {rules.min_gain:+.3f} was required"]
    if found:
        index, before, after = min(found, key=lambda drop: drop[2] - drop[1])
        beyond = before - after > rules.max_class_drop + ROUNDING
        merits.append(
            f"no class fell by more than {rules.max_class_drop:.3f}{' beyond noise' if beyond else ''}: the "
            f"worst, {name_of(index, classes)}, went from {before:.3f} to {after:.3f} "
            f"({after - before:+.3f})"
        )
    else:
        merits.append(f"no class has the {rules.min_class_pixels} held-out pixels to be judged on its own")
    if slimmed:
        merits.append("it needs fewer MACs than the live model")
    return tuple(merits)


def _unusable(live: Scores, candidate: Scores) -> list[str]:
    """Return the reasons why the two scores cannot be compared at all."""
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
            problems.append(f"the {who} has scores that are not between 0 and 1: {', '.join(wrong)}")
        if len(scores.iou_per_class) != len(scores.pixels_per_class):
            problems.append(
                f"the {who} has scores for {len(scores.iou_per_class)} classes, "
                f"the labels have {len(scores.pixels_per_class)}"
            )
    return problems


def _is_fraction(value: float) -> bool:
    return math.isfinite(value) and -ROUNDING <= value <= 1.0 + ROUNDING
