"""What there is to learn from: which labelled samples a round may train on, and which it is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dance_ondevice.policies.rounds.start import Drifted, answered
from dance_ondevice.policies.samples.splits import TEACHER, SampleInfo

__all__ = ["Stock", "count", "may_teach", "might_teach"]

#: Of fewer samples without a place than this none is held out.
_LEAST_TO_HOLD_OUT = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Stock:
    """What a round would find.

    Attributes:
        new_labelled: samples that may train and never did, those without a place yet among them.
        enough: whether that many start a round, also after a drift.
        judging: samples that a candidate can be judged on, or that may yet be held out for it.
    """

    new_labelled: int = 0
    enough: bool = False
    judging: int = 0


def may_teach(sample: SampleInfo) -> bool:
    """Whether a sample has its place among those that train, and never did."""
    return sample.labelled and sample.split == "train" and sample.rounds_used == 0


def might_teach(sample: SampleInfo) -> bool:
    """Whether a sample may train, or may yet be given its place among those that do."""
    return may_teach(sample) or (sample.labelled and sample.split is None)


def count(
    samples: Sequence[SampleInfo],
    *,
    min_new_samples: int,
    drifted: Sequence[Drifted] = (),
    needed_after_drift: int = 1,
    teacher_judges: bool = False,
) -> Stock:
    """Count what a round would find.

    Args:
        samples: all that are labelled.
        min_new_samples: so many new ones start a round.
        drifted: cameras that have drifted since a round learnt from them, with their new samples.
        needed_after_drift: so many new ones of a camera that has drifted start a round.
        teacher_judges: whether a teacher's labels judge where no held-out sample has another label.
    """
    new = sum(map(might_teach, samples))
    by_people = [sample for sample in samples if sample.labelled and not sample.by_machine]
    held_out = sum(sample.split == "gate" for sample in by_people)
    still_open = sum(sample.split is None for sample in by_people)
    if teacher_judges and not held_out:
        taught = [sample for sample in samples if sample.labelled and sample.label_source == TEACHER]
        held_out = sum(sample.split == "gate" for sample in taught)
        still_open += sum(sample.split is None for sample in taught)
    return Stock(
        new_labelled=new,
        enough=new >= max(1, min_new_samples) or bool(answered(drifted, needed_after_drift)),
        judging=held_out + (still_open if still_open >= _LEAST_TO_HOLD_OUT else 0),
    )
