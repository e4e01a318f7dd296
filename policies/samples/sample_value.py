"""How much a sample is worth: uncertainty x complexity x rarity of its classes and of its condition.

Each factor has a floor, so that one unknown figure, or a zero, does not decide alone. Choosing several
samples weighs worth against similarity: a sample counts for less the more it resembles those chosen already
(greedy k-center, Gonzalez 1985, with the sample's worth as the weight of its distance), and near-duplicates
of chosen samples are never chosen.
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

#: Least factor for uncertainty and for complexity: a frame that the model is sure of, or a plain one, keeps
#: this share of the worth.
_FLOOR = 0.1
#: Largest factor for rarity: of the rarest class, and of the rarest condition, relative to the commonest.
_MOST_RARE = 4.0
#: Uncertainty assumed for all frames while no model has segmented any.
_USUAL_UNCERTAINTY = 0.5
#: Distance of signatures from which two frames count as fully different; a larger one adds no worth.
_FAR = 200.0


@dataclass(frozen=True, slots=True)
class Chosen:
    """Ids of the chosen samples, best first, and ids that were left out as near-duplicates."""

    ids: tuple[str, ...]
    duplicates: tuple[str, ...]


def values(samples: Sequence[SampleInfo], among: Sequence[SampleInfo] | None = None) -> dict[str, float]:
    """Return the worth of each sample relative to the others, by id; all are above 0.

    Complexity is a rank among similar samples, of the same condition and brightness, so that a dark dusk is
    not worth less. An unknown uncertainty is replaced by the median of the known ones. A class, or a
    condition, is rarer the fewer samples contain it: worth grows with the square root of its rarity, up to a
    bound. An unknown condition is not rare.

    Args:
        samples: Samples to be valued.
        among: Samples that rarity is counted over; None counts over `samples`.
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

    The choice is greedy: the next sample has the largest worth times its distance to the nearest one chosen
    so far, and is never a near-duplicate. Samples without a signature count as unlike everything; those of
    equal worth are spread evenly over time. The order of `samples` does not matter.

    Args:
        samples: Samples to choose from.
        count: Number of samples to choose at most.
        worth: Worth of each sample by id, see ``values``.
        known: Samples chosen or used before; near-duplicates of them are left out.
    """
    codes = {s.id: similarity.code(s.signature) for s in samples}
    in_time = sorted(samples, key=lambda each: (each.captured_at, each.id))
    turns = dict(zip((s.id for s in in_time), _spread_turns(len(in_time)), strict=True))
    before = [code for s in known if (code := similarity.code(s.signature)) is not None]
    # Entries are updated lazily: distances only shrink, so one that is still the largest after its update is
    # the largest of all.
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
    "Weighted random sampling with a reservoir", 2006). The result is the same for any order of `samples`.

    Args:
        samples: Samples to draw from.
        count: Number of samples to draw at most.
        seed: Seed of the draw.

    Returns:
        Ids in the order drawn.
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
        # The last turn may not reach all groups: which of them get it is drawn, too.
        dice.shuffle(turn)
        drawn += turn[: count - len(drawn)]
        position += 1
    return drawn


def _spread_turns(count: int) -> list[int]:
    """Return a rank for each of `count` positions in a row, so that the first ranks are spread over the row.

    The ranks are the positions' numbers with their bits in reverse (van der Corput, 1935).
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
    """Return 1 for the commonest key, more for rarer ones, up to ``_MOST_RARE``."""
    most = max(counts.values(), default=1)
    return min(_MOST_RARE, math.sqrt(most / max(1, counts.get(of, 0))))


def apart(nearest: float) -> float:
    """What a sample's worth is multiplied by for its distance to the one that it resembles most, 0 to 1."""
    return min(1.0, nearest / _FAR)
