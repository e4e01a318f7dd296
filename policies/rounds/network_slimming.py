"""Network slimming: target of a round as a fraction of the unslimmed MACs, and the share of each branch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["PastStep", "SlimRules", "branch_shares", "branch_to_remove", "mean_scale", "next_fraction"]

#: Factor above the target up to which it counts as reached: channels are removed in whole groups.
_REACHED = 1.03
#: Least relative reduction of MACs that counts as slimming.
_SAME = 1e-6
#: Most halvings of a step: smaller ones would cost more in rounds than the slimming saves.
_MOST_HALVINGS = 3
#: Least mean scale that is assumed, so that every branch is slimmed.
_SMALLEST_SCALE = 0.1


@dataclass(frozen=True, slots=True)
class SlimRules:
    """Slimming settings from the configuration, both as fractions of the MACs of the unslimmed model.

    Attributes:
        target_macs_fraction: Fraction at which slimming ends, above 0 and at most 1.
        step: Fraction that one round removes at most, 0 (never slim) to 1.

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
    """Slimming of a finished round, and its outcome.

    Attributes:
        fraction_before: MACs of the live model over those of the unslimmed one.
        fraction_after: MACs of the candidate over those of the unslimmed one; equal if the round did not
            slim.
        outcome: Outcome: "promoted", "rejected", "failed" or "stopped".
    """

    fraction_before: float
    fraction_after: float
    outcome: str


def next_fraction(rules: SlimRules, current_fraction: float, recent: Sequence[PastStep]) -> float:
    """Return the fraction of the unslimmed MACs that the next candidate should have.

    One step below the live model, never below the target and never above the live model. After a slimming
    round that was rejected or failed the next round does not slim; the one after tries half the step, and
    half of that after another rejection; near the target a whole step is the remaining distance. A promoted
    slimming round restores the full step. The smallest step is not tried on the same live model again: only
    after a round that did not slim was promoted. Stopped rounds were never judged and are ignored.

    Args:
        rules: Slimming settings from the configuration.
        current_fraction: MACs of the live model over those of the unslimmed one, above 0.
        recent: Finished rounds, oldest first.

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
    refusals, from_this_model, same_model = 0, 0, True
    for step in reversed(judged):
        if _slimmed(step) and not _went_wrong(step):
            break
        same_model = same_model and step.outcome != "promoted"
        refusals += _went_wrong(step)
        from_this_model += same_model and _went_wrong(step)
    if from_this_model and refusals > _MOST_HALVINGS:
        return current_fraction
    # Near the target a whole step is the remaining distance: half of a longer one might reach the target,
    # too.
    whole = min(rules.step, current_fraction - rules.target_macs_fraction)
    tried = current_fraction - whole / (1 << min(refusals, _MOST_HALVINGS))
    return max(rules.target_macs_fraction, tried)


def mean_scale(histogram: Mapping[float, float]) -> float:
    """Return the mean scale of a histogram.

    Args:
        histogram: Number (or share) of the frames by scale; scales are above 0 and at most 1.

    Raises:
        ValueError: no frames, or an impossible scale or count.
    """
    for scale, count in histogram.items():
        if not 0.0 < scale <= 1.0 or not (math.isfinite(count) and count >= 0.0):
            raise ValueError(
                f"{count} frames of scale {scale}; give scales above 0 and at most 1, counts from 0"
            )
    total = sum(histogram.values())
    if total <= 0.0:
        raise ValueError("the histogram of scales holds no frames")
    return sum(scale * (count / total) for scale, count in histogram.items())


def branch_shares(scale: float, contexts: Mapping[str, float]) -> dict[str, float]:
    """Return the share of channels that each multi-scale branch loses, relative to the rest of the model.

    DANCE's co-optimisation of data and network: on an input at half the size the same window of features
    covers twice as much of the scene, so the context that a large branch adds is already covered by branches
    of smaller context, and it may go first. At scale 1 all branches lose as much as the rest, 1. Below that a
    branch loses 1 + (1 - scale) * (2 c - 1), where c is the position of its context between the smallest, 0,
    and the largest, 1, on a logarithmic axis. The shares lie between `scale` and 2 - `scale`; that of the
    largest context only grows as the scale falls, that of the smallest only shrinks.

    Args:
        scale: Mean scale of the frames that are trained and inferred on, above 0 and at most 1; see
            `mean_scale`.
        contexts: Side of the window that each branch covers, by branch, in any one unit, above 0.

    Returns:
        The share of each branch, for `dance_ondevice.slimming.slim.slim`.

    Raises:
        ValueError: a scale or a context out of range.
    """
    if not 0.0 < scale <= 1.0:
        raise ValueError(f"the scale is {scale}; give more than 0 and at most 1")
    for name, context in contexts.items():
        if not (math.isfinite(context) and context > 0.0):
            raise ValueError(f"the context of {name} is {context}; it must be above 0")
    tilt = 1.0 - max(scale, _SMALLEST_SCALE)
    sides = {name: math.log(context) for name, context in contexts.items()}
    low, high = min(sides.values(), default=0.0), max(sides.values(), default=0.0)
    return {
        name: 1.0 + tilt * (2.0 * (side - low) / (high - low) - 1.0) if high > low else 1.0
        for name, side in sides.items()
    }


def branch_to_remove(
    importance: Mapping[str, float], shares: Mapping[str, float], *, floor: float = 0.25
) -> str | None:
    """Choose the least valuable branch if it is worth so little that it can be removed whole; else None.

    The value of a branch is its importance divided by its share: a branch with a larger share needs more
    importance to stay.

    Args:
        importance: Importance of the channels of each removable branch, by branch, 0 or more; see
            `dance_ondevice.slimming.importance.branch_scores`.
        shares: Shares from `branch_shares`; a branch that is missing has 1.
        floor: Fraction of the mean value below which a branch is removed, 0 (none is) to 1.

    Raises:
        ValueError: a value out of range.
    """
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"floor is {floor}; give 0 to 1")
    worth = {}
    for name, value in importance.items():
        share = shares.get(name, 1.0)
        if not (math.isfinite(value) and value >= 0.0 and math.isfinite(share) and share > 0.0):
            raise ValueError(
                f"the importance of {name} is {value}, its share {share}; the first must be 0 or more, the "
                "second above 0"
            )
        worth[name] = value / share
    if not worth:
        return None
    least = min(worth, key=lambda name: (worth[name], name))
    return least if worth[least] < floor * sum(worth.values()) / len(worth) else None


def _slimmed(step: PastStep) -> bool:
    return step.fraction_after < step.fraction_before - _SAME


def _went_wrong(step: PastStep) -> bool:
    return _slimmed(step) and step.outcome != "promoted"
