"""Whether a round is one condition's own: it then learns late layers for that condition and touches no other.

Most samples of a round come from one light, since that is what changed. Where that light is a condition with
statistics of its own, learning on top of them can cost no other condition anything; shared weights would have
to serve all of them at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dance_ondevice.policies.conditions import BASE

__all__ = ["Choice", "ConditionRoundRules", "choose", "serving"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionRoundRules:
    """When a round is a condition's own.

    Attributes:
        share: of the new samples that must be of the condition.
        min_held_out: held-out samples of it that a candidate needs to be judged by.
    """

    share: float = 0.8
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
    """Choose what a round is for.

    Args:
        rules: what it takes.
        new: the condition of each new sample; "" where it is unknown.
        held_out: how many held-out samples there are of each condition.
        live: conditions whose own statistics serve.
    """
    counts = {name: new.count(name) for name in sorted(set(new)) if name and name != BASE}
    most = max(counts, key=lambda name: counts[name], default="")
    if not most or counts[most] < rules.share * len(new):
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
