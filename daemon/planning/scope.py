"""What a round is for, one condition or all at once, and the samples that follow from that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.versions import condition_file
from dance_ondevice.policies.rounds import condition_rounds
from dance_ondevice.policies.rounds import start as rounds
from dance_ondevice.policies.samples.splits import SampleInfo

__all__ = ["Planned", "comparable", "plan", "scope"]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A round's samples.

    Attributes:
        samples: which serve as what.
        condition: that it is for alone; None: for all at once.
        reason: why that is so; "" where there is nothing to say.
    """

    samples: rounds.RoundPlan
    condition: str | None
    reason: str


def plan(
    config: Config,
    samples: Sequence[SampleInfo],
    live: Callable[[], Path],
    *,
    rehearsal_share: float,
    seed: int,
) -> Planned | str:
    """Plan a round, or say in words why there is none.

    A condition's own round learns from its samples alone and is judged by all that its statistics serve; the
    others stay new for the round after it.

    Args:
        config: the whole configuration.
        samples: all that are labelled, with their splits.
        live: finds the folder of the live version.
        rehearsal_share: of the training samples.
        seed: of the draws.
    """

    def planned(of: Sequence[SampleInfo]) -> rounds.RoundPlan:
        return rounds.plan_round(
            of,
            rehearsal_share=rehearsal_share,
            max_samples=config.training.max_samples,
            max_gate=config.training.gate_max_samples,
            seed=seed,
        )

    whole = planned(samples)
    if not whole.train and not whole.rehearsal:
        return f"nothing to train on: {whole.reason}"
    if not whole.gate:
        return f"no held-out samples to judge a candidate by: {whole.reason}"
    if not config.conditions.enabled:
        return Planned(samples=whole, condition=None, reason="")
    known = condition_file.read(live())
    new = [s.condition for s in samples if s.labelled and s.split == "train" and s.rounds_used == 0]
    held_out = Counter(s.condition for s in samples if s.labelled and s.split == "gate" and not s.by_machine)
    choice = condition_rounds.choose(condition_rounds.ConditionRoundRules(), new, held_out, known.live)
    if choice.condition is None:
        return Planned(samples=whole, condition=None, reason=choice.reason)
    own = [
        sample
        for sample in samples
        if sample.condition == choice.condition
        or (sample.split == "gate" and known.serving(sample.condition) == choice.condition)
    ]
    return Planned(samples=planned(own), condition=choice.condition, reason=choice.reason)


def scope(condition: str) -> str:
    """What a condition's own round leaves alone, for the candidate's certificate."""
    return (
        f"learnt for condition {condition} alone and compared on its held-out samples: all other frames are "
        "segmented bit for bit as before"
    )


def comparable(past: Sequence[Mapping[str, Any]], condition: str | None) -> list[Mapping[str, Any]]:
    """The past rounds whose cost and pace tell something of the next: those of its kind, else all.

    A step of a condition's own round is cheaper, and its pace is its own.
    """
    alike = [row for row in past if bool(row.get("condition")) == (condition is not None)]
    return alike or list(past)
