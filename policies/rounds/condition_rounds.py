"""Rounds for one condition: they train what that condition has for itself and leave all others unchanged.

Parameters trained for a condition, on top of its own statistics, cannot harm any other; shared weights have
to be right for all of them at once. So the condition of most new samples gets a round of its own, and a
round for all conditions trains on samples without a condition. A condition whose own statistics were worse
than others, or were not estimated yet, learns from the model's own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dance_ondevice.policies.stream.conditions import BASE

__all__ = ["Choice", "ConditionRoundRules", "choose", "serving"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionRoundRules:
    """Requirements for a round that trains one condition alone.

    Attributes:
        min_new: Least number of new samples of the condition.
        min_held_out: Least number of its held-out samples, by which a candidate is judged.
    """

    min_new: int = 4
    min_held_out: int = 4


@dataclass(frozen=True, slots=True)
class Choice:
    """The one condition that a round trains (None for all at once), and the reason, which may be ""."""

    condition: str | None = None
    reason: str = ""


def choose(
    rules: ConditionRoundRules,
    new: Sequence[str],
    held_out: Mapping[str, int],
    known: Collection[str],
) -> Choice:
    """Choose the condition that a round trains: that of most new samples, unless more samples have none.

    Args:
        rules: Requirements for a round of one condition.
        new: Condition of each new sample; "" if unknown.
        held_out: Number of held-out samples of each condition.
        known: Conditions that the live version distinguishes.
    """
    counts = {name: new.count(name) for name in sorted(set(new)) if name and name != BASE}
    shared = len(new) - sum(counts.values())
    most = max(counts, key=lambda name: counts[name], default="")
    if not most or counts[most] < max(rules.min_new, shared):
        return Choice()
    found = f"{counts[most]} of {len(new)} new samples are of condition {most}"
    if most not in known:
        return Choice(None, f"{found}, which the live version does not know: a round for all")
    there = held_out.get(most, 0)
    if there < rules.min_held_out:
        return Choice(
            None,
            f"{found}, but only {there} held-out ones, {rules.min_held_out} are needed to judge it alone: "
            "a round for all",
        )
    return Choice(most, f"for condition {most} alone: {found}")


def serving(condition: str, live: Collection[str], parents: Mapping[str, str]) -> str:
    """Return the condition whose statistics are applied to a frame: its own, its parent's, or ``base``.

    Args:
        condition: Condition of the frame; "" if unknown.
        live: Conditions whose own statistics are in use.
        parents: Condition that was current when another one was opened, by name of the opened one.
    """
    if condition in live:
        return condition
    parent = parents.get(condition, BASE)
    return parent if parent in live else BASE
