"""Losses of classes and conditions: which of them a candidate may not cost, and what is carried on.

A class or a condition falls too far by one candidate, or by several promotions together, see ``erosion``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from dance_ondevice.policies.promotion.bootstrap import Bounded, Comparison
from dance_ondevice.policies.promotion.erosion import Fall, carried
from dance_ondevice.policies.promotion.rules import ROUNDING, GateRules, Group, Scores

__all__ = ["Drop", "counted", "drops", "fallen", "fallen_classes", "fallen_groups", "falls_after", "name_of"]

#: Class id, IoU before and after.
Drop = tuple[int, float, float]


def drops(live: Scores, candidate: Scores, min_pixels: int) -> list[Drop]:
    """Return (class id, IoU before, IoU after) of the classes with enough labelled pixels."""
    rows = zip(live.iou_per_class, candidate.iou_per_class, live.pixels_per_class, strict=True)
    # A class with labelled pixels always has an IoU; one without a figure counts as 0, to the candidate's
    # disadvantage.
    return [
        (index, before or 0.0, after or 0.0)
        for index, (before, after, pixels) in enumerate(rows)
        if pixels >= max(1, min_pixels)
    ]


def fallen_classes(
    found: Sequence[Drop],
    rules: GateRules,
    classes: Sequence[str],
    comparison: Comparison | None,
    before: Mapping[str, Fall],
) -> list[str]:
    """Return the classes that have fallen too far, each as a reason in words.

    Args:
        found: What `drops` found.
        rules: Limits from the configuration.
        classes: Names of the classes; empty for their ids.
        comparison: Comparison sample by sample, with bounds; None lets the figures decide as they are.
        before: What the live model lost on its way, see `falls_after`.
    """
    reasons = []
    for index, old, new in found:
        name = f"class {name_of(index, classes)}"
        fall = carried(before.get(name, Fall()), _change(comparison, index, new - old))
        if new < old and fall.points < -rules.max_class_drop - ROUNDING and fall.is_certain():
            reasons.append(
                f"{name} fell from {old:.3f} to {new:.3f} ({new - old:+.3f}{_with_earlier(fall)}), "
                f"at most {-rules.max_class_drop:+.3f} is allowed{_evidence(comparison, index)}"
            )
    return reasons


def fallen_groups(
    groups: Sequence[Group], rules: GateRules, before: Mapping[str, Fall], measure: str
) -> list[str]:
    """Return the conditions that have fallen too far, each as a reason in words; see `fallen`."""
    return [
        f"{group.name} fell from {measure} {group.comparison.live:.3f} to {group.comparison.candidate:.3f} "
        f"({group.comparison.gain.point:+.3f}{_with_earlier(fall)}), at most "
        f"{-_may_fall(group.comparison, rules):+.3f} is allowed{_lacking(group.comparison, rules)}"
        for group, fall in fallen(groups, rules, before)
    ]


def fallen(
    groups: Sequence[Group], rules: GateRules, before: Mapping[str, Fall] = MappingProxyType({})
) -> list[tuple[Group, Fall]]:
    """Return the conditions that have fallen too far, each with what it lost since it last rose.

    Args:
        groups: The comparisons of the conditions.
        rules: Limits from the configuration.
        before: What the live model lost on its way, see `falls_after`.
    """
    found = _falls_of(groups, before)
    return [(group, fall) for group, fall in found if _fallen(group.comparison, fall, rules)]


def _fallen(group: Comparison, fall: Fall, rules: GateRules) -> bool:
    """Return whether a condition has fallen too far, and by more than chance as far as its samples show."""
    if group.gain.point >= 0.0 or fall.points >= -_may_fall(group, rules) - ROUNDING:
        return False
    return group.units < rules.min_group_units or fall.is_certain()


def _may_fall(group: Comparison, rules: GateRules) -> float:
    """Return the allowed loss of a condition's mIoU: with fewer units it grows by the root of their lack."""
    return rules.max_condition_drop * math.sqrt(max(1.0, rules.min_group_units / max(1, group.units)))


def falls_after(
    live: Scores,
    candidate: Scores,
    rules: GateRules,
    classes: Sequence[str] = (),
    *,
    comparison: Comparison | None = None,
    groups: Sequence[Group] = (),
    fallen_before: Mapping[str, Fall] = MappingProxyType({}),
) -> dict[str, Fall]:
    """Return what the classes and conditions have lost since they last rose, once the candidate is live.

    The arguments are those of `promotion.judge`. What was not judged this time keeps what it had lost before.
    """
    falls = dict(fallen_before)
    for index, before, after in drops(live, candidate, rules.min_class_pixels):
        name = f"class {name_of(index, classes)}"
        falls[name] = carried(falls.get(name, Fall()), _change(comparison, index, after - before))
    for group, fall in _falls_of(groups, fallen_before):
        if group.lasting:
            falls[group.name] = fall
    return {name: fall for name, fall in falls.items() if fall.points < 0.0}


def _falls_of(groups: Sequence[Group], before: Mapping[str, Fall]) -> Iterator[tuple[Group, Fall]]:
    if len(groups) < 2:  # the whole is judged already
        return
    for group in groups:
        earlier = before.get(group.name, Fall()) if group.lasting else Fall()
        yield group, carried(earlier, group.comparison.gain)


def _change(comparison: Comparison | None, index: int, point: float) -> Bounded:
    """Return the change of a class with its bounds, where they are known."""
    if comparison is None or index >= len(comparison.classes):
        return Bounded(point)
    return comparison.classes[index] or Bounded(point)


def _with_earlier(fall: Fall) -> str:
    if fall.promotions < 2:
        return ""
    return f", with the {counted(fall.promotions - 1, 'promotion')} before {fall.points:+.3f}"


def _lacking(comparison: Comparison, rules: GateRules) -> str:
    more = rules.min_group_units - comparison.units
    return f"; {counted(more, f'more held-out {comparison.unit}')} of it would decide" if more > 0 else ""


def _evidence(comparison: Comparison | None, index: int) -> str:
    """Return what stands behind the figure of a class: with sparse labels it may be a few blocks."""
    if comparison is None or index >= len(comparison.class_units):
        return ""
    blocks = counted(comparison.class_units[index], comparison.unit)
    return f"; {comparison.pixels[index]:,} labelled pixels in {blocks} say so"


def counted(number: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def name_of(index: int, classes: Sequence[str]) -> str:
    """Return the name of a class, its id where it has none."""
    return classes[index] if index < len(classes) else str(index)
