"""Whether a teacher's labels may judge candidates where a person's cannot.

A person has to say so. What a person has labelled can take it back: with enough frames on which the teacher
was measured, the lower bound of its agreement must reach what is asked of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, stdev

__all__ = ["ENOUGH_FRAMES", "Trust", "trust"]

#: Frames of a person's labels from which on they decide.
ENOUGH_FRAMES = 30


@dataclass(frozen=True, slots=True)
class Trust:
    """Whether a teacher's labels may judge, and why in words."""

    may_judge: bool
    why: str


def trust(
    allowed: bool, frames: Sequence[tuple[int, int]], *, target: float, confidence: float = 0.9
) -> Trust:
    """Decide whether a teacher's labels may judge.

    Args:
        allowed: Whether a person said so.
        frames: Of each frame with a person's label: the teacher's believed pixels that agree with it, and all
            of its believed pixels where there is a label.
        target: Least share that must agree, 0 to 1.
        confidence: Confidence of the lower bound, 0.5 to less than 1.
    """
    if not allowed:
        return Trust(False, "labels.teacher_may_judge is false")
    shares = [agreed / believed for agreed, believed in frames if believed > 0]
    if len(shares) < ENOUGH_FRAMES:
        return Trust(
            True, f"labels.teacher_may_judge is true, and {len(shares)} frames of a person's labels are few"
        )
    # Frames are spread over time, so each counts as one observation.
    bound = mean(shares) - NormalDist().inv_cdf(confidence) * stdev(shares) / math.sqrt(len(shares))
    figures = f"it agrees with {len(shares)} frames of a person's labels by {bound:.3f} at least"
    if bound < target:
        return Trust(False, f"{figures}, and {target:.3f} is asked for (labels.teacher_agreement)")
    return Trust(True, figures)
