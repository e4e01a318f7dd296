"""Size of a round: the joules of a step, learnt from past rounds, and the largest round that fits the budget.

A round costs an overhead (start, loading, scoring) and its steps; the cost of a step is proportional to its
pixels. When the joules are not enough for the whole round, it is reduced in an order that costs the least
learning: fewer passes over the samples, then less rehearsal, then smaller images, and still fewer passes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Cost", "RoundSize", "Wanted", "fit_cost", "fit_round", "pixel_share"]

#: Number of latest rounds that a cost is learnt from, since machines and models change.
_PAST_ROUNDS = 8
#: Least share of a step in a round's joules per step: noise must not make steps free.
_LEAST_STEP_SHARE = 0.25
#: Share of the passes over the samples down to which they are reduced first, before rehearsal and images.
_STEPS_FIRST = 0.5
#: Share of the wanted rehearsal down to which it is reduced: without rehearsal old scenes are forgotten.
_LEAST_REHEARSAL = 0.5


@dataclass(frozen=True, slots=True)
class Cost:
    """Gross joules of a round's overhead, and of one full-size step."""

    overhead_joules: float
    step_joules: float

    def round(self, steps: float) -> float:
        """Return the gross joules of a round of so many full-size steps."""
        return self.overhead_joules + steps * self.step_joules


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The round that the configuration asks for.

    Attributes:
        new: Number of samples that train for the first time.
        rehearsal: Number of samples that are rehearsed.
        epochs: Passes over all of them.
        batch_size: Samples in a step.
        min_steps: Least number of optimiser steps; fewer do not change a model.
        pixels: Pixels of the samples, by the scale that they are stored at; empty if unknown.
        scales: Scales that images may be trained at.
    """

    new: int
    rehearsal: int
    epochs: int
    batch_size: int
    min_steps: int
    pixels: Mapping[float, float]
    scales: tuple[float, ...] = (1.0,)

    def steps(self, rehearsal: int) -> int:
        """Return the optimiser steps of the whole round with so many rehearsed samples."""
        return max(self.min_steps, self.epochs * -(-(self.new + rehearsal) // self.batch_size))


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundSize:
    """Size of a round that fits the budget.

    Attributes:
        steps: Number of optimiser steps.
        new: Number of samples that train for the first time; the others wait for a later round.
        rehearsal: Number of samples that are rehearsed.
        max_scale: Largest scale of the images; those stored at a higher scale are trained at this one.
        joules: Predicted gross joules of the round.
        step_joules: Predicted gross joules of one step.
        reason: Reductions in words; empty for the whole round.
    """

    steps: int
    new: int
    rehearsal: int
    max_scale: float
    joules: float
    step_joules: float
    reason: str


def fit_cost(past: Sequence[tuple[float, float]], default: Cost) -> Cost:
    """Estimate the cost of a round from past rounds.

    The slope of joules over steps is the median over all pairs (Theil 1950), which outliers such as a round
    beside another program do not change. Where all rounds had the same steps, the share of the overhead is
    taken from the default.

    Args:
        past: Full-size steps and gross joules of earlier rounds, oldest first; rounds without a step or
            without a figure are skipped.
        default: Cost without any earlier round.
    """
    known = [(s, j) for s, j in past if s > 0 and math.isfinite(s) and math.isfinite(j) and j > 0.0]
    known = known[-_PAST_ROUNDS:]
    if not known:
        return default
    per_step = median(joules / steps for steps, joules in known)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(known, 2) if a[0] != b[0]]
    if slopes:
        step = min(per_step, max(_LEAST_STEP_SHARE * per_step, median(slopes)))
    else:
        whole = default.round(known[-1][0])
        share = 1.0 - default.overhead_joules / whole if whole > 0.0 else 1.0
        step = per_step * max(_LEAST_STEP_SHARE, share)
    return Cost(max(0.0, median(joules - step * steps for steps, joules in known)), step)


def pixel_share(pixels: Mapping[float, float], max_scale: float) -> float:
    """Return the share of a step's pixels that is left when no image is trained above a scale."""
    whole = sum(pixels.values())
    if whole <= 0.0:
        return min(1.0, max_scale) ** 2
    return sum(n * min(1.0, max_scale / scale) ** 2 for scale, n in pixels.items()) / whole


def fit_round(cost: Cost, joules: float, wanted: Wanted) -> RoundSize | str:
    """Find the largest round that fits the joules.

    Args:
        cost: Cost of a round at full size.
        joules: Gross joules that the prediction must not exceed.
        wanted: Round that the configuration asks for, with at least one sample.

    Returns:
        The size of the round; a text that says why if none fits.
    """
    least = math.inf
    for rehearsal, scale, least_steps in _concessions(wanted):
        step_joules = cost.step_joules * pixel_share(wanted.pixels, scale)
        whole = wanted.steps(rehearsal)
        room = joules - cost.overhead_joules
        fits = step_joules * whole <= room
        reach = whole if fits else int(max(0.0, room) / step_joules) if step_joules > 0.0 else 0
        least = min(least, cost.overhead_joules + step_joules * least_steps)
        if reach < least_steps:
            continue
        new, repeated = _fill(wanted.new, rehearsal, reach * wanted.batch_size)
        return RoundSize(
            steps=reach,
            new=new,
            rehearsal=repeated,
            max_scale=scale,
            joules=cost.overhead_joules + step_joules * reach,
            step_joules=step_joules,
            reason=_reason(wanted, reach, new, repeated, scale),
        )
    return (
        f"{max(0.0, joules):,.0f} J are not enough for a round: the smallest, {wanted.min_steps} steps, "
        f"takes {least:,.0f} J"
    )


def _concessions(wanted: Wanted) -> Iterator[tuple[int, float, int]]:
    """Yield rehearsal, largest scale and least steps, in the order in which they are tried."""
    fewer = math.ceil(_LEAST_REHEARSAL * wanted.rehearsal)
    scales = sorted(wanted.scales, reverse=True) or [1.0]
    for rehearsal, scale in ((wanted.rehearsal, scales[0]), *((fewer, scale) for scale in scales)):
        yield rehearsal, scale, max(wanted.min_steps, math.ceil(_STEPS_FIRST * wanted.steps(rehearsal)))
    yield fewer, scales[-1], wanted.min_steps


def _fill(new: int, rehearsal: int, places: int) -> tuple[int, int]:
    """Return how many samples of each kind train in batches of `places` samples in all; at least one."""
    total = new + rehearsal
    if total <= places:
        return new, rehearsal
    repeated = rehearsal * places // total
    return min(new, places - repeated), repeated


def _reason(wanted: Wanted, steps: int, new: int, rehearsal: int, scale: float) -> str:
    cuts: list[str] = []
    whole = wanted.steps(wanted.rehearsal)
    if steps < whole:
        cuts.append(f"{steps} of {whole} steps")
    if rehearsal < wanted.rehearsal:
        cuts.append(f"{rehearsal} of {wanted.rehearsal} earlier samples")
    if new < wanted.new:
        cuts.append(f"{new} of {wanted.new} new samples")
    if scale < max(wanted.scales, default=1.0):
        cuts.append(f"images at scale {scale:g} at most")
    return f"cut to fit the joules: {', '.join(cuts)}" if cuts else ""
