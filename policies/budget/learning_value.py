"""Value of learning: whether a round is worth its joules now, judged by the gains of past rounds.

A round's gain is the rise of the live model's mIoU on held-out samples: 0 for a round whose candidate was not
promoted, though its joules are spent. The latest rounds count most, since scenes and models change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Expectation", "PastRound", "ValueRules", "Verdict", "expect", "train_or_wait"]

#: A round over n times as many new samples is expected to gain the square root of n times as much, within
#: these bounds: the error of an estimate falls with the root of its samples.
_SCALE_BOUNDS = (0.5, 2.0)
#: Number of rounds in a row without a gain that is normal; each further one doubles the new samples to wait
#: for, up to _MOST_DOUBLINGS times: a store under a quota may never hold more new samples.
_ORDINARY = 4
_MOST_DOUBLINGS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueRules:
    """Prior expectation, and the least expected gain for which a round starts.

    Attributes:
        prior_gain: Gain of mIoU that is expected of a first round, as a fraction of 1.
        memory: Weight of each round relative to the one after it; less than 1.
        least_gain_per_day: Expected gain of mIoU for a whole day's joules from which a round starts.

    Raises:
        ValueError: a value is out of range.
    """

    prior_gain: float = 0.02
    memory: float = 0.5
    least_gain_per_day: float = 0.002

    def __post_init__(self) -> None:
        if not 0.0 <= self.memory < 1.0:
            raise ValueError(f"memory is {self.memory}; give 0 or more and less than 1")
        for name in ("prior_gain", "least_gain_per_day"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} is {value}; give 0 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class PastRound:
    """Gain and size of a finished round.

    Attributes:
        gain: Rise of the live model's mIoU, as a fraction of 1; 0 if nothing was promoted.
        new_samples: Number of samples that trained for the first time; 0 if unknown.
    """

    gain: float
    new_samples: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """Expected gain and joules of the next round.

    Attributes:
        gain: Expected gain of mIoU, as a fraction of 1.
        joules: Predicted gross joules.
        fruitless: Number of latest rounds in a row without a gain.
    """

    gain: float
    joules: float
    fruitless: int

    @property
    def gain_per_joule(self) -> float:
        """Return the expected gain of mIoU per joule; infinite for a gain that costs nothing."""
        if self.joules > 0.0:
            return self.gain / self.joules
        return math.inf if self.gain > 0.0 else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Decision whether a round is worth its joules now, and the reason in words."""

    train: bool
    reason: str


def expect(
    rules: ValueRules, past: Sequence[PastRound], *, new_samples: int, predicted_joules: float
) -> Expectation:
    """Estimate the gain of a round over so many new samples.

    The estimate is a weighted mean: the latest round counts 1, the one before `memory`, and so on; the prior
    counts as the oldest round, so its weight falls as rounds are added.

    Args:
        rules: Settings of the method.
        past: Finished rounds, oldest first.
        new_samples: Number of new samples of the coming round.
        predicted_joules: Predicted gross joules of the coming round.
    """
    total, weights, weight = 0.0, 0.0, 1.0
    for each in reversed(past):
        total += weight * max(0.0, each.gain) * _scale(new_samples, each.new_samples)
        weights += weight
        weight *= rules.memory
    gain = (total + weight * rules.prior_gain) / (weights + weight)
    fruitless = 0
    for each in reversed(past):
        if each.gain > 0.0:
            break
        fruitless += 1
    return Expectation(gain=gain, joules=max(0.0, predicted_joules), fruitless=fruitless)


def train_or_wait(
    rules: ValueRules,
    expectation: Expectation,
    *,
    joules_per_day: float,
    new_samples: int,
    min_new_samples: int,
    forced: bool = False,
) -> Verdict:
    """Decide whether to train now or to wait for more new samples.

    Training goes on while the expected gain for a day's joules is at least `rules.least_gain_per_day`. Below
    that, rounds in a row without a gain double the number of new samples to wait for: a scene that has
    changed is tried again soon, and one that does not change costs few joules.

    Args:
        rules: Settings of the method.
        expectation: Expected gain and joules of the coming round.
        joules_per_day: Joules that training may spend in a day.
        new_samples: Number of new samples since the last round, without those that it left over.
        min_new_samples: Least number of new samples of a round.
        forced: True if the user asked for the round, which then always runs.
    """
    per_day = expectation.gain_per_joule * joules_per_day
    told = (
        f"a gain of {expectation.gain:.4f} mIoU is expected for {expectation.joules:,.0f} J, "
        f"{per_day:.4f} for a day's joules"
    )
    if forced:
        return Verdict(True, f"{told}; asked for by the user")
    if per_day >= rules.least_gain_per_day:
        return Verdict(True, told)
    # After small gains that do not pay, the number is doubled once, too: otherwise there would be no wait.
    doublings = min(max(1, expectation.fruitless - _ORDINARY), _MOST_DOUBLINGS)
    wanted = max(1, min_new_samples) * 2**doublings
    if new_samples >= wanted:
        return Verdict(True, f"{told}; tried once more, since {new_samples} new samples came")
    return Verdict(
        False,
        f"learning does not pay now: {told}, less than the {rules.least_gain_per_day:g} that is worth while, "
        f"after {expectation.fruitless} rounds in a row without a gain; waiting for {wanted} new samples, "
        f"{new_samples} came since the last",
    )


def _scale(new_samples: int, then: int) -> float:
    if new_samples <= 0 or then <= 0:
        return 1.0
    least, most = _SCALE_BOUNDS
    return min(most, max(least, math.sqrt(new_samples / then)))
