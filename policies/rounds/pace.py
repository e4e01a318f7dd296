"""How fast and how long to learn, from the gate's own curve: mIoU on held-out samples as a round goes on.

The curve is looked at after a third and after two thirds of the steps. A third decides whether to go on at
all; the whole curve sets the learning rate and the steps of the next round.
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
    "give_up",
    "look_steps",
    "may_finish",
    "next_pace",
]

#: What the falling learning rate brings at the end even where the curve is flat, mIoU.
_ANNEALING = 0.02
#: A last third that gains less than this was not worth its joules; one that gains five times as much was.
_FLAT = 0.002
_LEAST_RATE, _LEAST_STEPS = 1 / 8, 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """mIoU on the same held-out samples while a round ran.

    Attributes:
        live: of the live model.
        start: of the candidate before its first step: lower than `live` when it was slimmed.
        points: (step, mIoU) in order of the steps; the last one after all of them if the round ran to its
            end.
        steps: that were planned.
    """

    live: float
    start: float
    points: tuple[tuple[int, float], ...]
    steps: int


@dataclass(frozen=True, slots=True)
class Pace:
    """Factors on the configured learning rate and on the steps that fit the joules, and why."""

    rate: float = 1.0
    steps: float = 1.0
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PastPace:
    """A finished round, as far as its pace goes.

    Attributes:
        pace: that it ran at.
        curve: None where it was not looked at.
        outcome: "promoted", "rejected", "rolled_back", "stopped" or "failed".
        diverged: whether its loss ceased to be finite.
    """

    pace: Pace
    curve: Curve | None
    outcome: str
    diverged: bool = False


def look_steps(steps: int) -> tuple[int, ...]:
    """After which steps of a round to look at the gate: a third and two thirds."""
    third = math.ceil(steps / 3)
    return tuple(step for step in (third, 2 * third) if 0 < step < steps)


def give_up(*, live: float, start: float, now: float, noise: float, min_gain: float = 0.0) -> str | None:
    """Why a round is hopeless after a third of its steps, or None.

    It goes on if the candidate could still catch up with the live model were the other two thirds to gain as
    much as the first one each, and a little more as the learning rate falls. A candidate that is as good as
    the live model by then always goes on.

    Args:
        live: mIoU of the live model on the samples looked at.
        start: of the candidate before its first step.
        now: of the candidate.
        noise: by how much its gain may be better than it looks: upper bound minus figure.
        min_gain: that promotion will ask for.
    """
    hoped = now + 2.0 * max(0.0, now - start) + _ANNEALING + max(0.0, noise)
    if hoped >= live + min_gain:
        return None
    return (
        f"after a third of the steps mIoU is {now:.3f}, {now - live:+.3f} against the live model and "
        f"{now - start:+.3f} since the start: {hoped:.3f} at best in the end, and {live + min_gain:.3f} is "
        "asked for"
    )


def may_finish(curve: Curve | None, step: int, min_gain: float = 0.0) -> bool:
    """Whether a round that runs out of joules at `step` is worth judging as it is.

    A third of its steps are done, and where the curve was last looked at it was above the live model.
    """
    if curve is None or not curve.points or 3 * step < curve.steps:
        return False
    return curve.points[-1][1] > curve.live + min_gain


def evaluation_joules(step_joules: float, *, gate: int, batch_size: int) -> float:
    """Joules to set aside for judging a round: a step is about three passes over its batch, judging one over
    the held-out samples; half as much again for saving and measuring.
    """
    return 1.5 * max(0.0, step_joules) * gate / (3.0 * max(1, batch_size))


def next_pace(past: Sequence[PastPace]) -> Pace:
    """The pace of the next round.

    The learning rate is halved (down to an eighth) after a round that diverged, or whose candidate was worse
    after a third of its steps than before the first one and was not promoted; a promotion doubles it again,
    up to what is configured. Steps are cut by a quarter (down to half) when the last third of two rounds in a
    row brought nothing, and are all there again when it brought much.

    Args:
        past: finished rounds, oldest first.
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
    """What the last third gained; None where the round was not looked at to its end."""
    if curve is None or len(curve.points) < 3 or curve.points[-1][0] < curve.steps:
        return None
    return curve.points[-1][1] - curve.points[-2][1]
