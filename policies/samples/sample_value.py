"""How much a sample is worth: uncertainty x complexity x rarity of its classes and of its condition.

Each factor has a floor, so that a figure nobody knows, or a zero, does not decide alone. Choosing several
samples weighs worth against likeness: a sample counts for less the more it resembles what is chosen already
(greedy k-center, Gonzalez 1985, with the sample's worth as the weight of its distance), and near-duplicates
of what is chosen count for nothing.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dance_ondevice.policies.samples import similarity
from dance_ondevice.policies.samples.similarity import stored_light
from dance_ondevice.policies.samples.splits import SampleInfo

__all__ = ["Chosen", "apart", "balanced_draw", "choose", "values"]

_Key = TypeVar("_Key", int, str)

#: A frame that the model is sure of, or a plain one, is worth so much of one that is not.
_FLOOR = 0.1
#: The rarest class, and the rarest condition, make a sample worth at most so much more than the commonest.
_MOST_RARE = 4.0
#: Where no model has seen a single frame, all are taken for as uncertain as this.
_USUAL_UNCERTAINTY = 0.5
#: Signatures this far apart show different things; farther ones are not worth more for it.
_FAR = 200.0


@dataclass(frozen=True, slots=True)
class Chosen:
    """Ids in the order in which they were chosen, best first, and those left out as near-duplicates."""

    ids: tuple[str, ...]
    duplicates: tuple[str, ...]


def values(samples: Sequence[SampleInfo], among: Sequence[SampleInfo] | None = None) -> dict[str, float]:
    """What each sample is worth relative to the others, by id; all above 0.

    Complexity is a rank among samples alike, of the same condition and light: a dusk is worth no less for
    being dark. An unknown uncertainty is taken for the median of the known ones. A class, or a condition, is
    rarer the fewer samples it is in: worth grows with the square root of that, up to a bound. A
    condition that is not known yet is not rare.

    Args:
        samples: to be valued.
        among: all samples that rarity is judged by; by default those valued.
    """
    everybody = samples if among is None else among
    known = sorted(s.uncertainty for s in everybody if s.uncertainty is not None)
    usual = known[len(known) // 2] if known else _USUAL_UNCERTAINTY
    classes = Counter(class_id for s in everybody for class_id in s.classes)
    conditions = Counter(s.condition for s in everybody if s.condition)
    alike: dict[tuple[str, int], list[float]] = {}
    for s in everybody:
        alike.setdefault(_alike(s), []).append(s.score)
    ordered = {group: sorted(scores) for group, scores in alike.items()}
    return {
        s.id: (_FLOOR + _unit(usual if s.uncertainty is None else s.uncertainty))
        * (_FLOOR + _rank(ordered.get(_alike(s), []), s.score))
        * max((_rarity(classes, class_id) for class_id in s.classes), default=1.0)
        * (_rarity(conditions, s.condition) if s.condition else 1.0)
        for s in samples
    }


def choose(
    samples: Sequence[SampleInfo],
    count: int,
    worth: Mapping[str, float],
    *,
    known: Sequence[SampleInfo] = (),
) -> Chosen:
    """Choose up to `count` samples that are worth much and unlike each other.

    Greedy: the next one is that of the largest worth times its distance to the nearest one chosen so far, and
    never a near-duplicate. Samples without a signature are taken for unlike everything; those worth the same
    are spread evenly over time. The order of `samples` does not matter.

    Args:
        samples: to choose from.
        count: at most.
        worth: by id, see ``values``.
        known: chosen or used before: a near-duplicate of one of them is left out.
    """
    codes = {s.id: similarity.code(s.signature) for s in samples}
    in_time = sorted(samples, key=lambda each: (each.captured_at, each.id))
    turns = dict(zip((s.id for s in in_time), _spread_turns(len(in_time)), strict=True))
    before = [code for s in known if (code := similarity.code(s.signature)) is not None]
    # Lazily: distances only ever shrink, so an entry that is still the largest once updated is the largest.
    nearest: dict[str, float] = {}
    compared: dict[str, int] = {}
    reference = list(before)
    heap = [(-worth[s.id], turns[s.id], s.id) for s in in_time]
    heapq.heapify(heap)
    ids: list[str] = []
    duplicates: list[str] = []
    while heap and len(ids) < count:
        _, turn, identifier = heapq.heappop(heap)
        start = compared.get(identifier, 0)
        if start < len(reference):
            mine = codes[identifier]
            found = [d for other in reference[start:] if (d := similarity.distance(mine, other)) is not None]
            nearest[identifier] = min([nearest.get(identifier, math.inf), *found])
            compared[identifier] = len(reference)
            if nearest[identifier] <= similarity.NEAR:
                duplicates.append(identifier)
                continue
            heapq.heappush(heap, (-worth[identifier] * apart(nearest[identifier]), turn, identifier))
            continue
        ids.append(identifier)
        if (own := codes[identifier]) is not None:
            reference.append(own)
    return Chosen(tuple(ids), tuple(duplicates))


def balanced_draw(samples: Sequence[SampleInfo], count: int, seed: int) -> list[str]:
    """Draw up to `count` samples so that cameras, conditions and classes all get their share.

    Each (camera, condition, light) gets equally many, as far as it has them. Within it a sample's chance
    grows with the rarity of its rarest class (weighted draw without replacement: Efraimidis and Spirakis,
    "Weighted random sampling with a reservoir", 2006). The same for any order of `samples`; ids in the order
    drawn.

    Args:
        samples: to draw from.
        count: at most.
        seed: of the draw.
    """
    classes = Counter(class_id for s in samples for class_id in s.classes)
    groups: dict[tuple[str, str, int], list[tuple[float, str]]] = {}
    dice = random.Random(seed)
    for s in sorted(samples, key=lambda each: each.id):
        weight = max((_rarity(classes, class_id) for class_id in s.classes), default=1.0)
        # The largest u^(1/weight) first; its logarithm keeps small chances apart.
        key = math.log(1.0 - dice.random()) / weight
        groups.setdefault((s.camera, *_alike(s)), []).append((-key, s.id))
    queues = [sorted(groups[name]) for name in sorted(groups)]
    drawn: list[str] = []
    position = 0
    while len(drawn) < count and any(position < len(queue) for queue in queues):
        turn = [queue[position][1] for queue in queues if position < len(queue)]
        # The last turn may not be whole: which groups get it is drawn, too.
        dice.shuffle(turn)
        drawn += turn[: count - len(drawn)]
        position += 1
    return drawn


def _spread_turns(count: int) -> list[int]:
    """A turn for each of so many places in a row, so that the first turns are spread evenly over the row.

    The places' numbers with their bits in reverse (van der Corput, 1935).
    """
    bits = max(1, (count - 1).bit_length())
    return [int(f"{place:0{bits}b}"[::-1], 2) for place in range(count)]


def _alike(sample: SampleInfo) -> tuple[str, int]:
    return sample.condition, stored_light(sample.signature)


def _rank(ordered: Sequence[float], score: float) -> float:
    """Mid-rank among sorted scores, in [0, 1]; a half where there are none."""
    if not ordered or not math.isfinite(score):
        return 0.5 if not ordered else 0.0
    return (bisect_left(ordered, score) + bisect_right(ordered, score)) / (2 * len(ordered))


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.0


def _rarity(counts: Mapping[_Key, int], of: _Key) -> float:
    """1 for the commonest, more for rarer ones, up to ``_MOST_RARE``."""
    most = max(counts.values(), default=1)
    return min(_MOST_RARE, math.sqrt(most / max(1, counts.get(of, 0))))


def apart(nearest: float) -> float:
    """What a sample's worth is multiplied by for its distance to the one that it resembles most, 0 to 1."""
    return min(1.0, nearest / _FAR)
