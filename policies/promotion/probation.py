"""Probation: a promoted version must hold on frames that came after its promotion, or it is rolled back.

Both versions look at the same frames, so a scene that gets harder (dusk, rain) is held against neither.
Where labels came, the scores are prequential: nothing has learnt from these frames yet. Where none came, the
model's own confidence and the agreement of the two masks stand in; they say less, so their bounds are wider.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dance_ondevice.policies.promotion.bootstrap import Bounded, Comparison

__all__ = ["Decision", "Evidence", "ProbationRules", "decide", "due"]

State = Literal["passed", "rolled_back", "waiting"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbationRules:
    """What a version on probation must hold.

    Attributes:
        samples: stored frames after the promotion that end the probation; 0 means no probation.
        min_samples: with fewer nothing is decided, not even when the next round is about to start.
        max_drop: mIoU that it may lose against the version before, as a fraction of 1.
        max_confidence_drop: mean confidence that it may lose, as a fraction of 1.
        min_agreement: share of pixels on which the two must agree where there are no labels.

    Raises:
        ValueError: a value is out of range.
    """

    samples: int = 32
    min_samples: int = 8
    max_drop: float = 0.02
    max_confidence_drop: float = 0.1
    min_agreement: float = 0.2

    def __post_init__(self) -> None:
        if self.samples < 0 or self.min_samples < 1:
            raise ValueError(
                f"samples is {self.samples} and min_samples {self.min_samples}; give 0 or more, and 1 or more"
            )
        for name in ("max_drop", "max_confidence_drop", "min_agreement"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What the two versions made of the frames since the promotion.

    Attributes:
        comparison: over the labelled frames, the version before as "live" and the one on probation as
            "candidate"; None without labels.
        confidence: change of the mean confidence over all frames; None without frames.
        agreement: share of pixels on which the masks agree, 0 to 1.
        samples: frames in all.
        untrained_before: the version before had learnt nothing: agreeing with it means nothing.
    """

    comparison: Comparison | None
    confidence: Bounded | None
    agreement: float | None
    samples: int
    untrained_before: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of the version, and why in words."""

    state: State
    reason: str


def due(rules: ProbationRules, samples: int, *, round_ahead: bool) -> bool:
    """Whether to look now: enough frames came, or a round is about to learn from the few that did.

    Args:
        rules: what the user set.
        samples: frames stored since the promotion.
        round_ahead: whether a round is about to start.
    """
    if rules.samples == 0:
        return False
    needed = min(rules.min_samples, rules.samples) if round_ahead else rules.samples
    return samples >= needed


def decide(rules: ProbationRules, evidence: Evidence) -> Decision:
    """Pass it, roll it back, or wait for more frames.

    Labels decide where there are enough of them. A fall counts when it is larger than allowed and its upper
    bound is below 0: not when it may well be luck.
    """
    labelled = evidence.comparison
    if labelled is not None and labelled.samples >= min(rules.min_samples, max(1, rules.samples)):
        figures = (
            f"mIoU {labelled.live:.3f} before, {labelled.candidate:.3f} now ({labelled.gain.point:+.3f}) on "
            f"{labelled.samples} labelled frames since the promotion"
        )
        if labelled.gain.point < -rules.max_drop and labelled.gain.at_most() < 0.0:
            return Decision("rolled_back", f"{figures}: at most {-rules.max_drop:+.3f} is allowed")
        return Decision("passed", figures)
    if evidence.samples < min(rules.min_samples, max(1, rules.samples)) or evidence.confidence is None:
        return Decision("waiting", f"{evidence.samples} of {rules.samples} frames since the promotion")
    change = evidence.confidence
    figures = f"mean confidence {change.point:+.3f} on {evidence.samples} frames since the promotion"
    if evidence.agreement is not None:
        figures += f", {evidence.agreement:.0%} of the pixels as the version before"
    if change.point < -rules.max_confidence_drop and change.at_most() < 0.0:
        return Decision("rolled_back", f"{figures}: at most {-rules.max_confidence_drop:+.3f} is allowed")
    if (
        evidence.agreement is not None
        and not evidence.untrained_before
        and evidence.agreement < rules.min_agreement
    ):
        return Decision("rolled_back", f"{figures}: at least {rules.min_agreement:.0%} are asked for")
    return Decision("passed", figures)
