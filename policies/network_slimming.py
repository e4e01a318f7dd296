"""Network slimming: how far the model of this round is slimmed, as a fraction of the unslimmed MACs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PastStep", "SlimRules", "next_fraction"]

#: Channels come in whole groups: a model this near above its target is as near as pruning gets.
_REACHED = 1.03
#: A model that got smaller by less than this was not slimmed.
_SAME = 1e-6
#: A step is not halved further than this, or the rounds would cost more than the slimming saves.
_MOST_HALVINGS = 3


@dataclass(frozen=True, slots=True)
class SlimRules:
    """What the user may set, both as fractions of the MACs of the unslimmed model.

    Attributes:
        target_macs_fraction: where slimming ends, above 0 and at most 1.
        step: how much one round removes at most, 0 (never slim) to 1.

    Raises:
        ValueError: a value is out of range.
    """

    target_macs_fraction: float = 0.5
    step: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.target_macs_fraction <= 1.0:
            raise ValueError(
                f"target_macs_fraction is {self.target_macs_fraction}; give more than 0 and at most 1"
            )
        if not 0.0 <= self.step <= 1.0:
            raise ValueError(f"step is {self.step}; give 0 to 1")


@dataclass(frozen=True, slots=True)
class PastStep:
    """What a finished round did.

    Attributes:
        fraction_before: MACs of the live model over those of the unslimmed one.
        fraction_after: the same of the candidate; equal when the round did not slim.
        outcome: "promoted", "rejected", "failed" or "stopped".
    """

    fraction_before: float
    fraction_after: float
    outcome: str


def next_fraction(rules: SlimRules, current_fraction: float, recent: Sequence[PastStep]) -> float:
    """The fraction of the unslimmed MACs that the next candidate should have.

    One step below the live model, never below the target and never above the live model. After a slimming
    round that was rejected or failed the next round does not slim; the one after tries half the step, and
    half of that after another rejection. A promoted slimming round brings the full step back. Stopped rounds
    were never judged and count for nothing.

    Args:
        rules: what the user set.
        current_fraction: MACs of the live model over those of the unslimmed one, above 0.
        recent: finished rounds, oldest first.

    Raises:
        ValueError: `current_fraction` is not a finite positive number.
    """
    if not math.isfinite(current_fraction) or current_fraction <= 0.0:
        raise ValueError(
            f"the live model's fraction of the unslimmed MACs is {current_fraction}; it must be above 0"
        )
    judged = [step for step in recent if step.outcome != "stopped"]
    if current_fraction <= rules.target_macs_fraction * _REACHED or (judged and _went_wrong(judged[-1])):
        return current_fraction
    refusals = 0
    for step in reversed([step for step in judged if _slimmed(step)]):
        if not _went_wrong(step):
            break
        refusals += 1
    step_size = rules.step / (1 << min(refusals, _MOST_HALVINGS))
    return max(rules.target_macs_fraction, current_fraction - step_size)


def _slimmed(step: PastStep) -> bool:
    return step.fraction_after < step.fraction_before - _SAME


def _went_wrong(step: PastStep) -> bool:
    return _slimmed(step) and step.outcome != "promoted"
