"""Labels from elsewhere: which samples are worth a label, and which of a teacher's pixels to believe."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dance_ondevice.policies.samples.sample_value import Chosen, values
from dance_ondevice.policies.samples.splits import SampleInfo
from dance_ondevice.policies.samples.spread import choose_spread

__all__ = [
    "BINS",
    "NEVER",
    "Calibration",
    "Retry",
    "calibrate",
    "choose_for_labelling",
    "labelling_values",
    "retry_after",
    "shortlist",
]

#: Confidences are counted in so many equal steps from 0 to 1.
BINS = 100
#: A threshold that no confidence reaches.
NEVER = 2.0
#: Fewer pixels than this say nothing about a class.
_ENOUGH_PIXELS = 500
#: More candidates than so many times what is wanted are not compared with each other.
_SHORTLIST = 8
#: A person sees less in an image that is stored smaller than it came.
_REDUCED = 0.5
_RETRY_SECONDS = 60.0
_LONGEST_RETRY = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """From which confidence on a teacher's pixels are believed.

    Attributes:
        thresholds: by the class that the teacher names; ``NEVER`` for one that it cannot be trusted with.
        agreement: share of the accepted pixels that agreed with labels; None when there were none.
        pixels: labelled pixels that this was measured on.
    """

    thresholds: tuple[float, ...]
    agreement: float | None
    pixels: int

    @property
    def trusted(self) -> bool:
        """Whether any pixel can be accepted."""
        return any(threshold <= 1.0 for threshold in self.thresholds)


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed teacher is tried again, in seconds, and after how many failures in a row."""

    seconds: float
    failures: int


def shortlist(candidates: Sequence[SampleInfo], count: int) -> list[SampleInfo]:
    """The candidates that a closer look is worth: the best by what is known, several times `count`.

    Half of the list is spread evenly over time, so that a stretch of high scores does not take all of it.
    """
    limit = max(64, _SHORTLIST * count)
    ordered = sorted(candidates, key=lambda each: (each.captured_at, each.id))
    if len(ordered) <= limit:
        return ordered
    worth = values(ordered)
    best = sorted(ordered, key=lambda each: (-worth[each.id], each.id))[: limit // 2]
    taken = {each.id for each in best}
    rest = [each for each in ordered if each.id not in taken]
    room = limit - len(best)
    return sorted(
        [*best, *(rest[index * len(rest) // room] for index in range(room))],
        key=lambda each: (each.captured_at, each.id),
    )


def choose_for_labelling(
    candidates: Sequence[SampleInfo],
    count: int,
    *,
    labelled: Sequence[SampleInfo] = (),
    reduced: Collection[str] = (),
) -> Chosen:
    """The samples most worth a label: uncertain, complex, of rare conditions, unlike each other and apart.

    Apart means spread over cameras, their conditions and time, see ``spread``.

    Args:
        candidates: samples without a label.
        count: at most.
        labelled: that have one: rarity is judged by them as well, and their near-duplicates are left out.
        reduced: ids of samples that are stored smaller than they came: a person sees less in them, so they
            are worth half.
    """
    worth = labelling_values(candidates, labelled, reduced)
    return choose_spread(candidates, count, worth, known=labelled)


def labelling_values(
    candidates: Sequence[SampleInfo], labelled: Sequence[SampleInfo] = (), reduced: Collection[str] = ()
) -> dict[str, float]:
    """What a label for each of the candidates is worth, by id; see ``choose_for_labelling``."""
    worth = values(candidates, [*candidates, *labelled])
    return {i: value * (_REDUCED if i in reduced else 1.0) for i, value in worth.items()}


def calibrate(
    correct: Sequence[Sequence[int]], total: Sequence[Sequence[int]], *, target: float, default: float
) -> Calibration:
    """Choose the lowest thresholds at which what is accepted agrees with labels as often as `target`.

    By class where there are enough labelled pixels of it; a class with fewer takes the threshold of all
    pixels together. Without any labelled pixel all take `default`.

    Args:
        correct: pixels that the teacher got right, by the class it named and by ``BINS`` steps of confidence.
        total: all labelled pixels, in the same order.
        target: share of the accepted pixels that must agree.
        default: threshold while nothing is known.
    """
    counted = sum(map(sum, total))
    if counted == 0:
        return Calibration(thresholds=(default,) * len(total), agreement=None, pixels=0)
    together = _lowest([*map(sum, zip(*correct, strict=True))], [*map(sum, zip(*total, strict=True))], target)
    thresholds = tuple(
        _lowest(right, seen, target) if sum(seen) >= _ENOUGH_PIXELS else together
        for right, seen in zip(correct, total, strict=True)
    )
    accepted = agreed = 0
    for threshold, right, seen in zip(thresholds, correct, total, strict=True):
        first = math.ceil(threshold * BINS - 1e-9)
        accepted += sum(seen[first:])
        agreed += sum(right[first:])
    return Calibration(
        thresholds=thresholds, agreement=agreed / accepted if accepted else None, pixels=counted
    )


def retry_after(failures: int) -> Retry:
    """How long to wait after so many failures in a row: a minute, doubled each time, a day at most."""
    doublings = min(max(0, failures - 1), 20)
    return Retry(min(_LONGEST_RETRY, _RETRY_SECONDS * 2.0**doublings), failures)


def _lowest(correct: Sequence[int], total: Sequence[int], target: float) -> float:
    """The lowest threshold above which enough pixels agree; ``NEVER`` when there is none."""
    found, right, seen = NEVER, 0, 0
    for index in range(len(total) - 1, -1, -1):
        right += correct[index]
        seen += total[index]
        if total[index] and right >= target * seen:
            found = index / len(total)
    return found
