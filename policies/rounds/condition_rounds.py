"""Whether a round is one condition's own: it then learns late layers for that condition and touches no other.

Learning for a condition on top of its own statistics can cost no other condition anything; shared weights
would have to serve all of them at once. So a light that most of what is new comes from gets a round of its
own, and a round for all is left for what has no condition, or none with statistics yet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dance_ondevice.policies.stream.conditions import BASE

__all__ = ["Choice", "ConditionRoundRules", "choose", "serving"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionRoundRules:
    """When a round is a condition's own.

    Attributes:
        min_new: new samples of it that there must be.
        min_held_out: held-out samples of it that a candidate needs to be judged by.
    """

    min_new: int = 4
    min_held_out: int = 4


@dataclass(frozen=True, slots=True)
class Choice:
    """The condition that a round is for, None for all at once; and why, "" where there was nothing to say."""

    condition: str | None = None
    reason: str = ""


def choose(
    rules: ConditionRoundRules,
    new: Sequence[str],
    held_out: Mapping[str, int],
    live: Collection[str],
) -> Choice:
    """Choose what a round is for: the condition that has most new samples, unless more have none.

    Args:
        rules: what it takes.
        new: the condition of each new sample; "" where it is unknown.
        held_out: how many held-out samples there are of each condition.
        live: conditions whose own statistics serve.
    """
    counts = {name: new.count(name) for name in sorted(set(new)) if name and name != BASE}
    shared = len(new) - sum(counts.values())
    most = max(counts, key=lambda name: counts[name], default="")
    if not most or counts[most] < max(rules.min_new, shared):
        return Choice()
    found = f"{counts[most]} of {len(new)} new samples are of condition {most}"
    if most not in live:
        return Choice(None, f"{found}, which has no statistics of its own: a round for all")
    there = held_out.get(most, 0)
    if there < rules.min_held_out:
        return Choice(
            None,
            f"{found}, but only {there} held-out ones, {rules.min_held_out} are needed to judge it alone: "
            "a round for all",
        )
    return Choice(most, f"for condition {most} alone: {found}")


def serving(condition: str, live: Collection[str], parents: Mapping[str, str]) -> str:
    """Whose statistics serve a frame: its condition's, those of the one it opened from, or the model's own.

    Args:
        condition: that the frame was taken in; "" where it is unknown.
        live: conditions whose own statistics serve.
        parents: the condition that served when another one was opened, by name.
    """
    if condition in live:
        return condition
    parent = parents.get(condition, BASE)
    return parent if parent in live else BASE
