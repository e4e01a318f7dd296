"""A choice of samples that are worth much, unlike each other, and spread over places, conditions and time.

Places are cameras. Each camera's conditions get a turn in the order of what has come least so far, and frames
that a camera took within moments of each other are taken only where nothing better is left.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dance_ondevice.policies.samples import similarity
from dance_ondevice.policies.samples.sample_value import Chosen, apart
from dance_ondevice.policies.samples.splits import SampleInfo

__all__ = ["choose_spread", "with_likely_conditions"]

#: Seconds between two frames of a camera: the first distance at which enough are found is kept.
_DISTANCES = (60.0, 20.0, 5.0, 1.0, 0.0)


def with_likely_conditions(samples: Sequence[SampleInfo]) -> list[SampleInfo]:
    """The samples, those of an unknown condition with that of the frame of their camera nearest in time."""
    known: dict[str, list[tuple[float, str]]] = {}
    for sample in sorted(samples, key=lambda each: (each.captured_at, each.id)):
        if sample.condition:
            known.setdefault(sample.camera, []).append((sample.captured_at, sample.condition))
    return [
        sample
        if sample.condition or sample.camera not in known
        else replace(sample, condition=_nearest(known[sample.camera], sample.captured_at))
        for sample in samples
    ]


def choose_spread(
    samples: Sequence[SampleInfo],
    count: int,
    worth: Mapping[str, float],
    *,
    known: Sequence[SampleInfo] = (),
) -> Chosen:
    """Choose up to `count` samples; the order of `samples` does not matter.

    Args:
        samples: to choose from.
        count: at most.
        worth: by id, see ``sample_value.values``.
        known: chosen or used before: near-duplicates of them are left out, and what was taken within moments
            of one comes last.
    """
    left = {
        sample.id: _Candidate(sample, similarity.code(sample.signature), worth[sample.id])
        for sample in sorted(with_likely_conditions(samples), key=lambda each: (each.captured_at, each.id))
    }
    times: dict[str, list[float]] = {}
    duplicates: list[str] = []
    for sample in known:
        _drop(duplicates, left, similarity.code(sample.signature))
        bisect.insort(times.setdefault(sample.camera, []), sample.captured_at)
    ids: list[str] = []
    taken: Counter[tuple[str, str]] = Counter()
    for distance in _DISTANCES:
        while left and len(ids) < count:
            free = [c for c in left.values() if _distance(times, c.sample) >= distance]
            if not free:
                break
            best = min(free, key=lambda c: (taken[c.group], -c.value, c.sample.captured_at, c.sample.id))
            del left[best.sample.id]
            ids.append(best.sample.id)
            taken[best.group] += 1
            bisect.insort(times.setdefault(best.sample.camera, []), best.sample.captured_at)
            _drop(duplicates, left, best.code)
    return Chosen(tuple(ids), tuple(duplicates))


@dataclass
class _Candidate:
    """A sample that may still be chosen; ``nearest`` is the distance to what it resembles most so far."""

    sample: SampleInfo
    code: int | None
    worth: float
    nearest: float = field(default=math.inf)

    @property
    def group(self) -> tuple[str, str]:
        return self.sample.camera, self.sample.condition

    @property
    def value(self) -> float:
        return self.worth * apart(self.nearest)


def _drop(duplicates: list[str], left: dict[str, _Candidate], code: int | None) -> None:
    """Take note of something chosen: what resembles it is worth less, and near-duplicates nothing."""
    if code is None:
        return
    for candidate in list(left.values()):
        found = similarity.distance(candidate.code, code)
        if found is None:
            continue
        candidate.nearest = min(candidate.nearest, found)
        if found <= similarity.NEAR:
            duplicates.append(candidate.sample.id)
            del left[candidate.sample.id]


def _distance(times: Mapping[str, list[float]], sample: SampleInfo) -> float:
    """Seconds to the nearest frame of the same camera that is taken."""
    taken = times.get(sample.camera, [])
    return min(
        (abs(taken[i] - sample.captured_at) for i in _around(taken, sample.captured_at)), default=math.inf
    )


def _around(ordered: Sequence[float], value: float) -> Iterable[int]:
    place = bisect.bisect_left(ordered, value)
    return (i for i in (place - 1, place) if 0 <= i < len(ordered))


def _nearest(known: Sequence[tuple[float, str]], at: float) -> str:
    place = bisect.bisect_left(known, (at, ""))
    return min(known[max(0, place - 1) : place + 1], key=lambda each: abs(each[0] - at))[1]
