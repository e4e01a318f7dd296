"""Rehearsal: the share of earlier samples in a round, set by the measured forgetting."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from dance_ondevice.policies.rounds.start import RoundPlan

__all__ = ["anchor_id", "is_anchor", "mix_anchors", "rehearsal_share"]

#: Loss of mIoU of old scenes in a round, as a fraction of 1, above which more is rehearsed.
TOLERATED_DROP = 0.005
#: Drop beyond the tolerated one at which the largest share is rehearsed.
_FULL_RESPONSE = 0.03
_MOST = 0.8
#: Number of measured rounds in a row within tolerance after which less is rehearsed, down to a part of it.
_CALM_ROUNDS = 3
_LEAST_PART = 0.5
#: Weight of each round relative to the one after it.
_MEMORY = 0.5
_ANCHOR = "anchor:"


def anchor_id(name: str) -> str:
    """The id by which a plan names an anchor; see ``is_anchor``."""
    return _ANCHOR + name


def rehearsal_share(base: float, old_scenes: Sequence[Sequence[float]]) -> float:
    """Return the share of a round's samples that is rehearsed.

    Args:
        base: Configured share; 0 stays 0.
        old_scenes: Changes of mIoU (fractions of 1) in past rounds, oldest first, of the groups of held-out
            samples other than the one that gained most; empty for a round that measured none.

    Returns:
        A share from half of `base` to the larger of `base` and 0.8. It grows with the drop of the worst
        group, the latest rounds counting most, and shrinks when no group dropped in the last rounds.
    """
    if not 0.0 <= base < 1.0:
        raise ValueError(f"the rehearsal share is {base}; give 0 or more and less than 1")
    drops = [
        max(0.0, -min(changes)) for changes in old_scenes if changes and all(map(math.isfinite, changes))
    ]
    if base == 0.0 or not drops:
        return base
    weights = [_MEMORY**age for age in range(len(drops))]
    mean = sum(w * drop for w, drop in zip(weights, reversed(drops), strict=True)) / sum(weights)
    if mean > TOLERATED_DROP:
        excess = min(1.0, (mean - TOLERATED_DROP) / _FULL_RESPONSE)
        return base + excess * (max(base, _MOST) - base)
    if len(drops) >= _CALM_ROUNDS and max(drops[-_CALM_ROUNDS:]) <= TOLERATED_DROP:
        return base * (_LEAST_PART + (1.0 - _LEAST_PART) * mean / TOLERATED_DROP)
    return base


def mix_anchors(
    plan: RoundPlan,
    anchors: Sequence[str],
    *,
    anchor_share: float,
    rehearsal_share: float,
    max_samples: int,
    seed: int,
) -> RoundPlan:
    """Mix samples of the base domain (anchors) into a plan's rehearsal, and fill it up with them.

    Args:
        plan: Plan of a round.
        anchors: Names of all anchors.
        anchor_share: Share of anchors among the rehearsed samples.
        rehearsal_share: Share of rehearsal among all training samples of the round, below 1.
        max_samples: Most training samples of the round.
        seed: Seed of the draw.

    Returns:
        The plan with anchors (see ``is_anchor``) after the earlier samples in its rehearsal.
    """
    wanted = int(len(plan.train) * rehearsal_share / (1.0 - rehearsal_share) + 1e-9)
    room = max(len(plan.rehearsal), min(wanted, max_samples - len(plan.train)))
    count = min(len(anchors), max(round(anchor_share * room), room - len(plan.rehearsal)))
    if not plan.train or count <= 0:
        return plan
    kept = _spread(plan.rehearsal, min(len(plan.rehearsal), room - count))
    drawn = random.Random(seed).sample(sorted(anchors), count)
    return replace(
        plan,
        rehearsal=(*kept, *(f"{_ANCHOR}{name}" for name in sorted(drawn))),
        reason=f"{plan.reason}, {count} anchors among the rehearsed",
    )


def is_anchor(sample: str) -> str | None:
    """Return the name of the anchor that an id in a plan stands for; None for a stored sample."""
    return sample.removeprefix(_ANCHOR) if sample.startswith(_ANCHOR) else None


def _spread(items: tuple[str, ...], count: int) -> tuple[str, ...]:
    return tuple(items[index * len(items) // count] for index in range(count)) if count else ()
