"""Whether a candidate costs so much that one nearer to the live model is tried instead.

What a round learns goes all of the way or part of it: between the live weights and the trained ones a
candidate keeps most of what both know (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
Where the first candidate is worse than the live model in all, or costs a condition or a class more than is
allowed at once, half as far may cost nothing and still gain. What earlier promotions have cost is the gate's.
"""

from __future__ import annotations

from collections.abc import Iterable

from dance_ondevice.policies.promotion.bootstrap import Comparison
from dance_ondevice.policies.promotion.rules import ROUNDING, GateRules

__all__ = ["costs_too_much"]


def costs_too_much(
    whole: Comparison, rules: GateRules, conditions: Iterable[tuple[float, float]] = ()
) -> bool:
    """Return whether a candidate loses in all, or in a condition or a class more than is allowed.

    Args:
        whole: The comparison on all held-out samples.
        rules: The gate's limits.
        conditions: mIoU of the live model and of the candidate in each condition, fractions of 1.
    """
    if whole.gain.point < 0.0:
        return True
    if any(candidate < live - rules.max_condition_drop - ROUNDING for live, candidate in conditions):
        return True
    judged = zip(whole.classes, whole.pixels, strict=True)
    changes = [change for change, pixels in judged if change is not None and pixels >= rules.min_class_pixels]
    most = rules.max_class_drop + ROUNDING
    return any(change.point < -most and change.at_most() < 0.0 for change in changes)
