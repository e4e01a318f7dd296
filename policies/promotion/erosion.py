"""Slow losses: what a condition or a class loses over several promotions, each loss too small to be refused.

The gate compares a candidate with the live model alone, so a loss within its limits could come back with
every round. Losses are therefore summed over promotions and judged as one. A rise pays them off, and the sum
never becomes positive: a cumulative sum as in Page, "Continuous inspection schemes", Biometrika 41, 1954.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dance_ondevice.policies.promotion.bootstrap import Bounded

__all__ = ["Fall", "carried", "decode", "encode"]

#: A sum that is reset at zero drifts below it by chance alone, so that more than one distance to a bound is
#: asked for where several were summed: without any real loss, one such sum in 25 lies two distances of
#: 90 % bounds below zero.
_SUMMED = 2.0


@dataclass(frozen=True, slots=True)
class Fall:
    """What a group has lost since it last rose.

    Attributes:
        points: The sum of its changes, as a fraction of 1; 0 or less.
        spread: Distance of the sum's upper bound, as a fraction of 1; 0 if it is not known.
        promotions: Number of changes in the sum.
    """

    points: float = 0.0
    spread: float = 0.0
    promotions: int = 0

    def is_certain(self) -> bool:
        """Return whether the loss is more than chance, as far as its bound is known."""
        return self.points + (_SUMMED if self.promotions > 1 else 1.0) * self.spread < 0.0


def carried(before: Fall, change: Bounded) -> Fall:
    """Add the change of one more promotion to what a group had lost before it."""
    if change.point == 0.0:  # for example a round that trained another condition's layers
        return before
    points = max(-1.0, before.points + change.point)
    if not points < 0.0:
        return Fall()
    spread = max(0.0, change.at_most() - change.point)
    return Fall(points, math.hypot(before.spread, spread), before.promotions + 1)


def encode(falls: Mapping[str, Fall]) -> dict[str, list[float]]:
    """Return losses by group as plain data, for a version's card."""
    return {name: [fall.points, fall.spread, fall.promotions] for name, fall in falls.items()}


def decode(data: object) -> dict[str, Fall]:
    """Read losses from a version's card; what is not as ``encode`` writes it counts as no loss."""
    if not isinstance(data, Mapping):
        return {}
    return {name: fall for name, value in data.items() if isinstance(name, str) and (fall := _fall(value))}


def _fall(value: object) -> Fall | None:
    if not isinstance(value, list) or len(value) != 3:
        return None
    if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in value):
        return None
    points, spread, promotions = value
    if not -1.0 <= points < 0.0 or spread < 0.0 or promotions < 1:
        return None
    return Fall(float(points), float(spread), int(promotions))
