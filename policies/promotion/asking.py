"""What a verdict lacked: how many more held-out units, and of which condition, would decide it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from dance_ondevice.policies.promotion.bootstrap import Comparison
from dance_ondevice.policies.promotion.erosion import Fall
from dance_ondevice.policies.promotion.losses import fallen
from dance_ondevice.policies.promotion.promotion import units_to_decide
from dance_ondevice.policies.promotion.rules import GateRules, Group

__all__ = ["Lacking", "frames_to_label", "lacking"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lacking:
    """Held-out units that would decide a verdict.

    Attributes:
        group: Name of the group that they must come from; empty for any.
        units: How many more, like those that there are.
        samples_per_unit: Held-out samples that a unit has now, on average.
        thin: Ids of the classes that a single unit holds, so that their gain proves nothing yet.
    """

    group: str
    units: int
    samples_per_unit: float
    thin: tuple[int, ...]


def lacking(
    whole: Comparison | None,
    groups: Sequence[Group],
    rules: GateRules,
    *,
    slimmed: bool,
    fallen_before: Mapping[str, Fall] = MappingProxyType({}),
) -> Lacking | None:
    """Return what would decide a verdict that fell for want of held-out labels; None where labels would not.

    A group that fell with too few units to bound its fall comes first; else the gain whose lower bound is too
    low, for which the group with the widest bounds is asked.

    Args:
        whole: The comparison over all held-out samples; None without counts.
        groups: The comparisons of the conditions.
        rules: Limits from the configuration.
        slimmed: True if the candidate has fewer MACs than the live model.
        fallen_before: What the live model lost on its way, see ``losses.falls_after``.
    """
    if whole is None:
        return None
    for group, _ in fallen(groups, rules, fallen_before):
        missing = rules.min_group_units - group.comparison.units
        if missing > 0:
            return _of(group.comparison, group.name, missing)
    least = rules.min_gain - (rules.slim_tolerance if slimmed else 0.0)
    more = units_to_decide(whole, least)
    if more is None:
        return None
    widest = max(groups, key=lambda each: _width(each.comparison), default=None)
    return _of(widest.comparison, widest.name, more) if widest else _of(whole, "", more)


def frames_to_label(found: Lacking, gate_share: float) -> int:
    """Return how many frames to label so that so many more units are held out.

    Args:
        found: What is lacking.
        gate_share: Share of the labelled samples that is held out, above 0.
    """
    return max(1, math.ceil(found.units * found.samples_per_unit / gate_share))


def _of(comparison: Comparison, group: str, units: int) -> Lacking:
    return Lacking(
        group=group,
        units=units,
        samples_per_unit=comparison.samples / max(1, comparison.units),
        thin=tuple(number for number, held in enumerate(comparison.class_units) if held == 1),
    )


def _width(comparison: Comparison) -> float:
    gain = comparison.gain
    return math.inf if gain.lower is None else gain.point - gain.lower
