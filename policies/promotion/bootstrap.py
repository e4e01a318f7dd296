"""Paired bootstrap over blocks of time: how sure is a difference between two models on the same samples.

Neighbouring frames of a camera are near copies, so whole blocks of time are drawn with replacement, not
frames (the block bootstrap of Kuensch, "The jackknife and the bootstrap for general stationary observations",
Annals of Statistics 1989). Both models are scored on the same draw, so what is hard in a block is hard for
both and cancels out. Percentile bounds are widened by sqrt(n / (n - 1)) for n blocks, since a bootstrap over
few draws from few blocks is too narrow by that factor (Hesterberg, "What Teachers Should Know About the
Bootstrap", 2015, arXiv 1411.5279, section 3).
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

__all__ = ["DRAWS", "Bounded", "Comparison", "Pair", "compare", "mean_change", "time_blocks"]

DRAWS = 1000
#: With fewer blocks of time than this, single samples are drawn: the bounds are then too narrow by what
#: neighbours have in common, but one block has no spread at all.
MIN_BLOCKS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One held-out sample as two models see it: pixels by class, five tuples of the same length.

    Attributes:
        truth: pixels of the label.
        live_hits: of those, right in the live model's mask.
        live_predicted: pixels that the live model's mask gives to the class, where the label counts.
        candidate_hits, candidate_predicted: the same of the candidate.
    """

    truth: tuple[int, ...]
    live_hits: tuple[int, ...]
    live_predicted: tuple[int, ...]
    candidate_hits: tuple[int, ...]
    candidate_predicted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bounded:
    """A figure and its one-sided bounds at the confidence asked for; None where nothing could be drawn."""

    point: float
    lower: float | None = None
    upper: float | None = None

    def at_least(self) -> float:
        """The lower bound, the figure itself where there is none."""
        return self.point if self.lower is None else self.lower

    def at_most(self) -> float:
        """The upper bound, the figure itself where there is none."""
        return self.point if self.upper is None else self.upper


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A candidate against the live model on the same samples; differences are candidate minus live.

    Attributes:
        live: mIoU.
        candidate: mIoU.
        gain: of mIoU.
        classes: of IoU by class; None for a class without truth.
        pixels: of truth, by class.
        samples: how many were scored.
        units: how many blocks (or samples) were drawn from; with fewer than two there are no bounds.
        unit: "block" or "sample".
    """

    live: float
    candidate: float
    gain: Bounded
    classes: tuple[Bounded | None, ...]
    pixels: tuple[int, ...]
    samples: int
    units: int
    unit: str


def time_blocks(places: Sequence[tuple[str, float]], block_seconds: float) -> list[int]:
    """Number the blocks of time that samples fall into.

    A block begins with a camera's first sample, and with the first that comes `block_seconds` or more after
    the start of the block before.

    Args:
        places: (camera, captured at in seconds) of each sample, in any order.
        block_seconds: length of a block.

    Returns:
        The number of its block, for each sample.
    """
    numbers = [0] * len(places)
    block, start, before = -1, 0.0, ("", 0.0)
    for index in sorted(range(len(places)), key=lambda i: places[i]):
        camera, at = places[index]
        if block < 0 or camera != before[0] or at - start >= block_seconds:
            block, start = block + 1, at
        numbers[index] = block
        before = (camera, at)
    return numbers


def compare(
    pairs: Sequence[Pair],
    blocks: Sequence[Hashable],
    *,
    confidence: float = 0.9,
    seed: int = 0,
    draws: int = DRAWS,
) -> Comparison:
    """Compare two models on the same samples, with bounds from `draws` draws of blocks.

    Args:
        pairs: the samples, at least one, all with the same number of classes.
        blocks: what block each sample belongs to.
        confidence: of each one-sided bound, 0.5 to less than 1.
        seed: of the draws.
        draws: how many; bounds need at least a hundred to mean anything.

    Raises:
        ValueError: there is nothing to compare, or an argument is out of range.
    """
    if not pairs or len(pairs) != len(blocks):
        raise ValueError(f"{len(pairs)} samples and {len(blocks)} blocks; give at least one, and as many")
    if not 0.5 <= confidence < 1.0:
        raise ValueError(f"the confidence is {confidence}; give 0.5 to less than 1")
    count = len(pairs[0].truth)
    layout = struct.Struct(f"<{5 * count}Q")
    packed = [_pack(layout, pair) for pair in pairs]
    units, unit = _units(packed, blocks)
    whole = sum(packed)
    live, candidate, changes = _scores(_unpack(layout, whole), count)
    gains: list[float] = []
    by_class: list[list[float]] = [[] for _ in range(count)]
    if len(units) > 1:
        rng = random.Random(seed)
        for _ in range(draws):
            drawn = _unpack(layout, sum(rng.choices(units, k=len(units))))
            before, after, changed = _scores(drawn, count)
            gains.append(after - before)
            for values, change in zip(by_class, changed, strict=True):
                if change is not None:
                    values.append(change)
    return Comparison(
        live=live,
        candidate=candidate,
        gain=_bounds(candidate - live, gains, len(units), confidence),
        classes=tuple(
            None if change is None else _bounds(change, values, len(units), confidence)
            for change, values in zip(changes, by_class, strict=True)
        ),
        pixels=_unpack(layout, whole)[:count],
        samples=len(pairs),
        units=len(units),
        unit=unit,
    )


def mean_change(
    changes: Sequence[float],
    blocks: Sequence[Hashable],
    *,
    confidence: float = 0.9,
    seed: int = 0,
    draws: int = DRAWS,
) -> Bounded:
    """The mean of differences, one a sample, with bounds from draws of blocks.

    Raises:
        ValueError: there are none.
    """
    if not changes or len(changes) != len(blocks):
        raise ValueError(f"{len(changes)} changes and {len(blocks)} blocks; give at least one, and as many")
    point = math.fsum(changes) / len(changes)
    sums: dict[Hashable, tuple[float, int]] = {}
    for change, block in zip(changes, blocks, strict=True):
        total, number = sums.get(block, (0.0, 0))
        sums[block] = (total + change, number + 1)
    units = list(sums.values()) if len(sums) >= MIN_BLOCKS else [(change, 1) for change in changes]
    means: list[float] = []
    if len(units) > 1:
        rng = random.Random(seed)
        for _ in range(draws):
            drawn = rng.choices(units, k=len(units))
            means.append(sum(total for total, _ in drawn) / sum(number for _, number in drawn))
    return _bounds(point, means, len(units), confidence)


def _pack(layout: struct.Struct, pair: Pair) -> int:
    """All counts of a sample in one integer, 64 bits each: adding samples is then one addition."""
    values = (
        *pair.truth,
        *pair.live_hits,
        *pair.live_predicted,
        *pair.candidate_hits,
        *pair.candidate_predicted,
    )
    try:
        return int.from_bytes(layout.pack(*values), "little")
    except struct.error as error:
        raise ValueError(
            f"counts of {len(pair.truth)} classes that are none, or not as many: {error}"
        ) from error


def _unpack(layout: struct.Struct, packed: int) -> tuple[int, ...]:
    return layout.unpack(packed.to_bytes(layout.size, "little"))


def _units(packed: Sequence[int], blocks: Sequence[Hashable]) -> tuple[list[int], str]:
    sums: dict[Hashable, int] = {}
    for value, block in zip(packed, blocks, strict=True):
        sums[block] = sums.get(block, 0) + value
    if len(sums) >= MIN_BLOCKS:
        return list(sums.values()), "block"
    return list(packed), "sample"


def _scores(counts: tuple[int, ...], classes: int) -> tuple[float, float, list[float | None]]:
    """mIoU of both over the classes that the truth holds, and the change of each class."""
    live = candidate = 0.0
    present = 0
    changes: list[float | None] = [None] * classes
    for index in range(classes):
        truth = counts[index]
        if not truth:
            continue
        live_hits, candidate_hits = counts[classes + index], counts[3 * classes + index]
        before = live_hits / (truth + counts[2 * classes + index] - live_hits)
        after = candidate_hits / (truth + counts[4 * classes + index] - candidate_hits)
        live += before
        candidate += after
        changes[index] = after - before
        present += 1
    return live / max(1, present), candidate / max(1, present), changes


def _bounds(point: float, drawn: list[float], units: int, confidence: float) -> Bounded:
    if units < 2 or not drawn:
        return Bounded(point)
    drawn.sort()
    widen = math.sqrt(units / (units - 1))
    # The nearest rank towards the outside: never a narrower bound than was asked for.
    rank = int((1.0 - confidence) * len(drawn))
    lower = min(point, point + (drawn[rank] - point) * widen)
    upper = max(point, point + (drawn[len(drawn) - 1 - rank] - point) * widen)
    return Bounded(point, lower, upper)
