"""Pace of learning: learning rate and steps, from the curve of mIoU on held-out samples during a round.

The candidate is evaluated after a third and after two thirds of the steps. The first evaluation decides
whether the round goes on; the whole curve sets the learning rate and the steps of the next round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Curve",
    "Pace",
    "PastPace",
    "evaluation_joules",
    "evaluation_steps",
    "give_up",
    "may_finish",
    "next_pace",
]

#: Gain of mIoU that the falling learning rate brings at the end, even where the curve is flat.
_ANNEALING = 0.02
#: A last third that gains less mIoU than this was not worth its joules; one that gains five times as much
#: was.
_FLAT = 0.002
_LEAST_RATE, _LEAST_STEPS = 1 / 8, 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Curve of mIoU on the same held-out samples during a round.

    Attributes:
        live: mIoU of the live model.
        start: mIoU of the candidate before its first step; lower than `live` if it was slimmed.
        points: Step and mIoU of each evaluation, in order; the last one is after all steps if the round ran
            to its end.
        steps: Number of planned steps.
    """

    live: float
    start: float
    points: tuple[tuple[int, float], ...]
    steps: int


@dataclass(frozen=True, slots=True)
class Pace:
    """Factors on the configured learning rate and on the steps that fit the joules, and the reason."""

    rate: float = 1.0
    steps: float = 1.0
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PastPace:
    """Pace and outcome of a finished round.

    Attributes:
        pace: Pace of the round.
        curve: Curve of mIoU during the round; None if it was not evaluated.
        outcome: Outcome: "promoted", "rejected", "rolled_back", "stopped" or "failed".
        diverged: True if its loss became infinite or not a number.
    """

    pace: Pace
    curve: Curve | None
    outcome: str
    diverged: bool = False


def evaluation_steps(steps: int) -> tuple[int, ...]:
    """Return the steps of a round after which to evaluate it on the gate samples: a third and two thirds."""
    third = math.ceil(steps / 3)
    return tuple(step for step in (third, 2 * third) if 0 < step < steps)


def give_up(*, live: float, start: float, now: float, noise: float, min_gain: float = 0.0) -> str | None:
    """Return why a round is given up after a third of its steps, or None if it goes on.

    It goes on if the candidate could still catch up with the live model, provided that each of the other two
    thirds gains as much as the first, and a little more as the learning rate falls. A candidate that is as
    good as the live model by then always goes on.

    Args:
        live: mIoU of the live model on the evaluated samples.
        start: mIoU of the candidate before its first step.
        now: mIoU of the candidate.
        noise: Uncertainty of its gain: upper bound minus figure.
        min_gain: Least gain of mIoU that promotion requires.
    """
    hoped = now + 2.0 * max(0.0, now - start) + _ANNEALING + max(0.0, noise)
    if hoped >= live + min_gain:
        return None
    return (
        f"after a third of the steps mIoU is {now:.3f}, {now - live:+.3f} against the live model and "
        f"{now - start:+.3f} since the start: {hoped:.3f} at best in the end, and {live + min_gain:.3f} is "
        "required"
    )


def may_finish(curve: Curve | None, step: int, min_gain: float = 0.0) -> bool:
    """Return whether a round that runs out of joules at `step` is worth judging as it is.

    It is if a third of its steps are done and its last evaluation was above the live model.
    """
    if curve is None or not curve.points or 3 * step < curve.steps:
        return False
    return curve.points[-1][1] > curve.live + min_gain


def evaluation_joules(step_joules: float, *, gate: int, batch_size: int, candidates: int = 1) -> float:
    """Return the joules to set aside for judging a round.

    A step costs about three passes over its batch, judging one pass over the held-out samples for each
    candidate; half as much is added for saving and measuring.
    """
    return (candidates + 0.5) * max(0.0, step_joules) * gate / (3.0 * max(1, batch_size))


def next_pace(past: Sequence[PastPace]) -> Pace:
    """Return the pace of the next round.

    The learning rate is halved (down to an eighth) after a round that diverged, or whose candidate was worse
    after a third of its steps than before the first one and was not promoted; a promotion doubles it again,
    up to the configured rate. Steps are cut by a quarter (down to half) when the last third of two rounds in
    a row brought no gain, and restored when it brought a large one.

    Args:
        past: Finished rounds, oldest first.
    """
    if not past:
        return Pace()
    last = past[-1]
    rate, reasons = last.pace.rate, []
    if last.diverged or (last.outcome == "rejected" and _fell(last.curve)):
        rate = max(_LEAST_RATE, rate / 2.0)
        reasons.append(f"{rate:g} of the learning rate, since the last round lost ground at twice that")
    elif last.outcome == "promoted" and rate < 1.0:
        rate = min(1.0, rate * 2.0)
    steps = last.pace.steps
    tails = [tail for each in past[-2:] if (tail := _last_third(each.curve)) is not None]
    if tails and tails[-1] > 5.0 * _FLAT:
        steps = 1.0
    elif len(tails) == 2 and max(tails) < _FLAT:
        steps = max(_LEAST_STEPS, steps * 0.75)
    if steps < 1.0:
        reasons.append(f"{steps:.0%} of the steps, since the last third of them has brought nothing lately")
    return Pace(rate, steps, "; ".join(reasons))


def _fell(curve: Curve | None) -> bool:
    return curve is not None and bool(curve.points) and curve.points[0][1] < curve.start - _ANNEALING


def _last_third(curve: Curve | None) -> float | None:
    """Return the gain of the last third; None if the round was not evaluated to its end."""
    if curve is None or len(curve.points) < 3 or curve.points[-1][0] < curve.steps:
        return None
    return curve.points[-1][1] - curve.points[-2][1]
