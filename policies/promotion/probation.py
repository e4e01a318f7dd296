"""Probation: a promoted version must stay good on frames after its promotion, or it is rolled back.

Both versions segment the same frames, so a scene that gets harder (dusk, rain) counts against neither. With
labels, the scores are prequential: neither version has trained on these frames yet. Without labels, the
model's own confidence and the agreement of the two masks are used instead; they are weaker evidence, so
larger changes are allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dance_ondevice.policies.promotion.bootstrap import Bounded, Comparison

__all__ = ["Decision", "Evidence", "ProbationRules", "decide", "due"]

State = Literal["passed", "rolled_back", "waiting"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbationRules:
    """Limits that a version on probation must keep.

    Attributes:
        samples: Number of stored frames after the promotion that end the probation; 0 means no probation.
        min_samples: Least number of frames for a decision, even when the next round is about to start.
        max_drop: Allowed loss of mIoU against the version before, as a fraction of 1.
        max_confidence_drop: Allowed loss of mean confidence, as a fraction of 1.
        min_agreement: Least share of pixels on which the two masks must agree without labels, 0 to 1.

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
    """Measurements of the two versions on the frames since the promotion.

    Attributes:
        comparison: Comparison over the labelled frames, the version before as "live" and the one on probation
            as "candidate"; None without labels.
        confidence: Change of the mean confidence over all frames; None without frames.
        agreement: Share of pixels on which the masks agree, 0 to 1.
        samples: Number of all frames.
        untrained_before: True if the version before was untrained, so that agreement with it is ignored.
    """

    comparison: Comparison | None
    confidence: Bounded | None
    agreement: float | None
    samples: int
    untrained_before: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Decision about the version on probation, and its reason in words."""

    state: State
    reason: str


def due(rules: ProbationRules, samples: int, *, round_ahead: bool) -> bool:
    """Return whether to evaluate the version now: enough frames came, or a round is about to train on them.

    Args:
        rules: Limits from the configuration.
        samples: Number of frames stored since the promotion.
        round_ahead: True if a round is about to start.
    """
    if rules.samples == 0:
        return False
    needed = min(rules.min_samples, rules.samples) if round_ahead else rules.samples
    return samples >= needed


def decide(rules: ProbationRules, evidence: Evidence) -> Decision:
    """Decide to pass the version, to roll it back, or to wait for more frames.

    Labels decide where there are enough of them. A fall counts if it is larger than allowed and the upper
    bound of the change is below 0, so that chance alone does not explain it.
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
