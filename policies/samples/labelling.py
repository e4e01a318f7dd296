"""Labelling: which samples are worth a label, and which pixels of a teacher's prediction to accept."""

from __future__ import annotations

import hashlib
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

#: Number of equal bins from 0 to 1 that confidences are counted in.
BINS = 100
#: Threshold that no confidence reaches: nothing is accepted.
NEVER = 2.0
#: A class needs at least this many labelled pixels for a threshold of its own.
_ENOUGH_PIXELS = 500
#: At most this many times the wanted number of candidates are compared with each other.
_SHORTLIST = 8
#: A person sees less in an image that is stored smaller than it came.
_REDUCED = 0.5
_RETRY_SECONDS = 60.0
_LONGEST_RETRY = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Confidence thresholds from which a teacher's pixels are accepted as labels.

    Attributes:
        thresholds: Least confidence for each class that the teacher predicts, by class id; ``NEVER`` for a
            class whose predictions are not accepted.
        agreement: Share of the accepted pixels that agreed with labels, 0 to 1; None without labelled pixels.
        pixels: Number of labelled pixels that the thresholds were measured on.
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
    """Wait in seconds before a failed teacher is started again, and the number of failures in a row."""

    seconds: float
    failures: int


def shortlist(candidates: Sequence[SampleInfo], count: int) -> list[SampleInfo]:
    """Preselect candidates by their stored figures, several times `count`, for a comparison of their images.

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
    """Choose samples that are worth a label: uncertain, complex, of rare conditions, and unlike each other.

    Chance decides among the better half: what a model is least sure of is often what no label would teach it.
    The same samples have the same chance every time. They are spread over cameras, their conditions and time,
    see ``spread``.

    Args:
        candidates: Samples without a label.
        count: Number of samples to choose at most.
        labelled: Samples that have a label. They count when rarity is judged, and their near-duplicates are
            left out.
        reduced: Ids of samples that are stored smaller than they arrived; they are worth half, since a person
            sees less in them.
    """
    worth = labelling_values(candidates, labelled, reduced)
    better = sorted(worth, key=lambda i: (-worth[i], i))[: (len(worth) + 1) // 2]
    drawn = {**worth, **{i: worth[better[-1]] * (1.0 + _chance(i)) for i in better}}
    return choose_spread(candidates, count, drawn, known=labelled)


def _chance(identifier: str) -> float:
    """A number from 0 to 1 that belongs to a sample."""
    return int(hashlib.blake2b(identifier.encode(), digest_size=6).hexdigest(), 16) / 2**48


def labelling_values(
    candidates: Sequence[SampleInfo], labelled: Sequence[SampleInfo] = (), reduced: Collection[str] = ()
) -> dict[str, float]:
    """What a label for each of the candidates is worth, by id; see ``choose_for_labelling``."""
    worth = values(candidates, [*candidates, *labelled])
    return {i: value * (_REDUCED if i in reduced else 1.0) for i, value in worth.items()}


def calibrate(
    correct: Sequence[Sequence[int]], total: Sequence[Sequence[int]], *, target: float, default: float
) -> Calibration:
    """Choose the lowest thresholds at which the accepted pixels agree with labels as often as `target`.

    A class with enough labelled pixels gets a threshold of its own; a class with fewer gets the threshold of
    all pixels together. Without any labelled pixel all classes get `default`.

    Args:
        correct: Pixels that the teacher got right, by the class it predicted and by ``BINS`` bins of
            confidence.
        total: All labelled pixels, in the same order.
        target: Share of the accepted pixels that must agree, 0 to 1.
        default: Threshold without any labelled pixel.
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
    """Return the wait after `failures` failures in a row: a minute, doubled each time, a day at most."""
    doublings = min(max(0, failures - 1), 20)
    return Retry(min(_LONGEST_RETRY, _RETRY_SECONDS * 2.0**doublings), failures)


def _lowest(correct: Sequence[int], total: Sequence[int], target: float) -> float:
    """Return the lowest threshold above which enough pixels agree; ``NEVER`` when there is none."""
    found, right, seen = NEVER, 0, 0
    for index in range(len(total) - 1, -1, -1):
        right += correct[index]
        seen += total[index]
        if total[index] and right >= target * seen:
            found = index / len(total)
    return found
