"""The scope of a round (one condition or all of them) and the samples that follow from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.children.jobs import RoundKindName
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.versions import condition_file
from dance_ondevice.policies.rounds import condition_rounds
from dance_ondevice.policies.rounds import start as rounds
from dance_ondevice.policies.samples.splits import SampleInfo

__all__ = ["FLEET", "WHOLE", "Planned", "Scope", "comparable", "of_condition", "plan"]


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The scope of a round, and what follows from it for its job and its verdict.

    Attributes:
        kind: The kind of round, as the trainer knows it (``trainer/kinds.py``).
        condition: The one condition that the round trains; None trains the shared weights of all conditions.
        slims: Whether the candidate may lose channels.
        distils: Whether distillation holds the candidate to the live model's answers on rehearsed samples.
        takes_anchors: Whether labelled images of the base domain are rehearsed.
        note: What the round does not change, for the candidate's certificate; may be empty.
    """

    kind: RoundKindName
    condition: str | None = None
    slims: bool = True
    distils: bool = True
    takes_anchors: bool = True
    note: str = ""


#: A round that trains the weights that all conditions share.
WHOLE = Scope(kind="whole")


#: A round that judges a release of the fleet and trains nothing.
FLEET = Scope(kind="fleet", slims=False, distils=False, takes_anchors=False)


def of_condition(name: str) -> Scope:
    """The scope of a round that trains one condition's own layers and no shared weights."""
    return Scope(
        kind="condition",
        condition=name,
        slims=False,
        distils=False,
        takes_anchors=False,
        note=f"learnt for condition {name} alone and compared on its held-out samples: all other frames are "
        "segmented bit for bit as before",
    )


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The samples and the scope of a round.

    Attributes:
        samples: The samples of the round by role.
        scope: The scope of the round.
        reason: Why it has that scope; may be empty.
    """

    samples: rounds.RoundPlan
    scope: Scope = WHOLE
    reason: str = ""


def plan(
    config: Config,
    samples: Sequence[SampleInfo],
    live: Callable[[], Path],
    *,
    rehearsal_share: float,
    seed: int,
    teacher_judges: bool = False,
) -> Planned | str:
    """Plan a round; returns a text that says why when there can be none.

    The round of one condition learns from that condition's samples alone and is judged on all samples that
    its statistics serve; the other samples stay new for the next round.

    Args:
        config: The whole configuration.
        samples: All labelled samples, with their splits.
        live: Returns the folder of the live version.
        rehearsal_share: Share of rehearsed samples among the training samples.
        seed: Seed of the random choices.
        teacher_judges: Whether a teacher's labels judge where no held-out sample has another label.
    """

    def planned(chosen: Sequence[SampleInfo]) -> rounds.RoundPlan:
        return rounds.plan_round(
            chosen,
            rehearsal_share=rehearsal_share,
            max_samples=config.training.max_samples,
            max_gate=config.training.gate_max_samples,
            seed=seed,
            teacher_judges=teacher_judges,
        )

    whole = planned(samples)
    if not whole.train and not whole.rehearsal:
        return f"nothing to train on: {whole.reason}"
    if not whole.gate:
        return f"no held-out samples to judge a candidate by: {whole.reason}"
    # Weaker evidence decides on the model as a whole, never on one condition by itself.
    if not config.conditions.enabled or whole.by_teacher:
        return Planned(samples=whole)
    known = condition_file.read(live())
    new = [s.condition for s in samples if s.labelled and s.split == "train" and s.rounds_used == 0]
    held_out = Counter(s.condition for s in samples if s.labelled and s.split == "gate" and not s.by_machine)
    choice = condition_rounds.choose(condition_rounds.ConditionRoundRules(), new, held_out, known.parents)
    if choice.condition is None:
        return Planned(samples=whole, reason=choice.reason)
    own = [
        sample
        for sample in samples
        if sample.condition == choice.condition
        or (sample.split == "gate" and known.serving(sample.condition) == choice.condition)
    ]
    return Planned(samples=planned(own), scope=of_condition(choice.condition), reason=choice.reason)


def comparable(past: Sequence[Mapping[str, Any]], scope: Scope) -> list[Mapping[str, Any]]:
    """The past rounds whose cost and pace predict the next: rounds of the same scope, or else all rounds.

    A step of a condition's own round is cheaper, and its pace differs.
    """
    alike = [row for row in past if bool(row.get("condition")) == (scope.condition is not None)]
    return alike or list(past)
