"""Network slimming: how far the model of this round is slimmed, as a fraction of the unslimmed MACs, and how
much of that falls to each of its multi-scale branches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["PastStep", "SlimRules", "branch_shares", "branch_to_remove", "mean_scale", "next_fraction"]

#: Channels come in whole groups: a model this near above its target is as near as pruning gets.
_REACHED = 1.03
#: A model that got smaller by less than this was not slimmed.
_SAME = 1e-6
#: A step is not halved further than this, or the rounds would cost more than the slimming saves.
_MOST_HALVINGS = 3
#: The scale of the data is taken to be at least this, so that no branch is spared entirely.
_SMALLEST_SCALE = 0.1


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
    half of that after another rejection; near the target a whole step is what is left of the way. A promoted
    slimming round brings the full step back. The smallest step is not tried on the same live model again:
    only after a round that did not slim was promoted. Stopped rounds were never judged and count for nothing.

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
    refusals, from_this_model, same_model = 0, 0, True
    for step in reversed(judged):
        if _slimmed(step) and not _went_wrong(step):
            break
        same_model = same_model and step.outcome != "promoted"
        refusals += _went_wrong(step)
        from_this_model += same_model and _went_wrong(step)
    if from_this_model and refusals > _MOST_HALVINGS:
        return current_fraction
    # Near the target a whole step is what is left: half of a longer one might end at the same place.
    whole = min(rules.step, current_fraction - rules.target_macs_fraction)
    tried = current_fraction - whole / (1 << min(refusals, _MOST_HALVINGS))
    return max(rules.target_macs_fraction, tried)


def mean_scale(histogram: Mapping[float, float]) -> float:
    """The mean of scales that are seen so often.

    Args:
        histogram: scale, above 0 and at most 1 -> how many frames, or what share of them.

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
    """How large a share of its channels each multi-scale branch loses, relative to the rest of the model.

    DANCE's co-optimisation of data and network: on an input at half the size the same window of features
    covers twice as much of the scene, so what a branch of large context adds is already in those of smaller
    context, and it may go first. At scale 1 all branches lose as much as the rest, 1. Below that a branch
    loses 1 + (1 - scale) * (2 c - 1), where c is where its context lies between the smallest, 0, and the
    largest, 1, on a logarithmic axis. The shares lie between `scale` and 2 - `scale`; that of the largest
    context only grows as the scale falls, that of the smallest only shrinks.

    Args:
        scale: mean scale of the frames that are trained and inferred on, above 0 and at most 1; see
            `mean_scale`.
        contexts: branch -> side of what it sees, in any one unit, above 0.

    Returns:
        Branch -> share, for `dance_ondevice.slimming.slim.slim`.

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
    """The branch that is worth least, if that is so little that it may go whole; else None.

    A branch is worth its importance divided by its share: what the data press harder has to matter more.

    Args:
        importance: branch that could be removed -> how much its channels matter, 0 or more; see
            `dance_ondevice.slimming.importance.branch_scores`.
        shares: from `branch_shares`; 1 where a branch is not named.
        floor: a branch goes if it is worth less than this part of the mean of all, 0 (none does) to 1.

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
