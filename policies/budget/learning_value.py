"""Is learning worth its joules now: what past rounds gained decides between training and waiting.

A round's gain is what the live model's mIoU rose by on held-out samples: nothing for a round whose candidate
was not promoted, though its joules are gone. The latest rounds count most, since scenes and models change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Expectation", "PastRound", "ValueRules", "Verdict", "expect", "train_or_wait"]

#: A round over n times as many new samples is expected to gain the square root of n times as much, within
#: these bounds: the error of an estimate falls with the root of its samples.
_SCALE_BOUNDS = (0.5, 2.0)
#: So many fruitless rounds in a row are ordinary; each one more doubles the wait, up to so many times: a
#: store under a quota may never hold more new samples.
_ORDINARY = 4
_MOST_DOUBLINGS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueRules:
    """What is expected before there is experience, and what is worth while.

    Attributes:
        prior_gain: mIoU, a fraction of 1, that a first round is expected to gain.
        memory: weight of each round relative to the one after it; less than 1.
        least_gain_per_day: mIoU that a whole day's joules must be expected to buy for a round to start.

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
    """A finished round.

    Attributes:
        gain: by which it raised the live model's mIoU; 0 when nothing was promoted.
        new_samples: that it trained on for the first time; 0 when unknown.
    """

    gain: float
    new_samples: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What the next round is expected to bring and to take.

    Attributes:
        gain: mIoU, a fraction of 1.
        joules: gross.
        fruitless: rounds in a row, up to now, that gained nothing.
    """

    gain: float
    joules: float
    fruitless: int

    @property
    def gain_per_joule(self) -> float:
        """mIoU that a joule is expected to buy; infinite for a round that costs nothing and gains."""
        if self.joules > 0.0:
            return self.gain / self.joules
        return math.inf if self.gain > 0.0 else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a round is worth its joules now, and why in words."""

    train: bool
    reason: str


def expect(
    rules: ValueRules, past: Sequence[PastRound], *, new_samples: int, predicted_joules: float
) -> Expectation:
    """What a round over so many new samples will gain in all likelihood.

    A weighted mean: the latest round counts 1, the one before `memory`, and so on; the prior stands at the
    start of the row, so it fades as experience grows.

    Args:
        rules: what the method is set to.
        past: finished rounds, oldest first.
        new_samples: of the coming round.
        predicted_joules: of the coming round, gross.
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
    """Whether to train now or to wait for more new samples.

    Training goes on while a day's joules are expected to buy `rules.least_gain_per_day`. When they are not,
    fruitless rounds in a row double the new samples that the next one waits for: a scene that has changed is
    tried again in time, and one that stands still costs less.

    Args:
        rules: what the method is set to.
        expectation: of the coming round.
        joules_per_day: that training may spend.
        new_samples: that came since the last round: those that it left over are no reason to try again.
        min_new_samples: that a round needs at the least.
        forced: whether the user asked for the round; then it is worth it.
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
    # Small gains that do not pay are doubled once, too: else nothing would be waited for.
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
