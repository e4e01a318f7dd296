"""Paired bootstrap over blocks of time: confidence bounds of the difference between two models.

Neighbouring frames of a camera are near copies, so whole blocks of time are drawn with replacement, not
frames (the block bootstrap of Kuensch, "The jackknife and the bootstrap for general stationary observations",
Annals of Statistics 1989). Both models are scored on the same draw, so what is hard in a block is hard for
both and cancels out. Percentile bounds are widened by sqrt(n / (n - 1)) for n blocks, since a bootstrap over
few draws from few blocks is too narrow by that factor (Hesterberg, "What Teachers Should Know About the
Bootstrap", 2015, arXiv 1411.5279, section 3). A class that only k of them hold, as with sparse labels, is
widened by its own factor, sqrt(k / (k - 1)). What it gained in a single block has no spread at all and proves
nothing: it is left out of the lower bound of the gain, and what it lost there is not.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

__all__ = ["DRAWS", "Bounded", "Comparison", "Pair", "compare", "mean_change", "time_blocks"]

DRAWS = 1000
#: With fewer blocks of time than this, single samples are drawn: the bounds are then too narrow, since
#: neighbouring samples are correlated, but a single block has no spread at all.
MIN_BLOCKS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Pixel counts of two models on one held-out sample: by class, five tuples of the same length.

    Attributes:
        labelled: Pixels of each class in the label.
        live_hits: Those of the labelled pixels that the live model predicts right.
        live_predicted: Pixels that the live model predicts as the class, where the label counts.
        candidate_hits: Those of the labelled pixels that the candidate predicts right.
        candidate_predicted: Pixels that the candidate predicts as the class, where the label counts.
    """

    labelled: tuple[int, ...]
    live_hits: tuple[int, ...]
    live_predicted: tuple[int, ...]
    candidate_hits: tuple[int, ...]
    candidate_predicted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bounded:
    """A figure and its one-sided bounds at the given confidence; the bounds are None without enough units."""

    point: float
    lower: float | None = None
    upper: float | None = None

    def at_least(self) -> float:
        """Return the lower bound; the figure itself without one."""
        return self.point if self.lower is None else self.lower

    def at_most(self) -> float:
        """Return the upper bound; the figure itself without one."""
        return self.point if self.upper is None else self.upper


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Comparison of a candidate with the live model on the same samples.

    Differences are candidate minus live.

    Attributes:
        live: mIoU of the live model, as a fraction of 1.
        candidate: mIoU of the candidate, as a fraction of 1.
        gain: Difference of mIoU.
        classes: Difference of IoU by class; None for a class without labelled pixels.
        pixels: Labelled pixels by class.
        samples: Number of scored samples.
        units: Number of blocks (or samples) to draw from; with fewer than two there are no bounds.
        unit: What is drawn, "block" or "sample".
        class_units: Number of units with a labelled pixel of a class, by class; empty where it is not known.
            Sparse labels may have many pixels of a class in few blocks, and then prove little about it.
    """

    live: float
    candidate: float
    gain: Bounded
    classes: tuple[Bounded | None, ...]
    pixels: tuple[int, ...]
    samples: int
    units: int
    unit: str
    class_units: tuple[int, ...] = ()


def time_blocks(places: Sequence[tuple[str, float]], block_seconds: float) -> list[int]:
    """Number the blocks of time that samples fall into.

    A block begins with a camera's first sample, and with the first that comes `block_seconds` or more after
    the start of the block before.

    Args:
        places: Camera and time of capture in seconds of each sample, in any order.
        block_seconds: Length of a block in seconds.

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
        pairs: Counts of the samples, at least one, all with the same number of classes.
        blocks: Block that each sample belongs to.
        confidence: Confidence of each one-sided bound, 0.5 to less than 1.
        seed: Seed of the draws.
        draws: Number of draws; useful bounds need at least a hundred.

    Raises:
        ValueError: there is nothing to compare, or an argument is out of range.
    """
    if not pairs or len(pairs) != len(blocks):
        raise ValueError(f"{len(pairs)} samples and {len(blocks)} blocks; give at least one, and as many")
    if not 0.5 <= confidence < 1.0:
        raise ValueError(f"the confidence is {confidence}; give 0.5 to less than 1")
    count = len(pairs[0].labelled)
    layout = struct.Struct(f"<{5 * count}Q")
    packed = [_pack(layout, pair) for pair in pairs]
    units, unit = _units(packed, blocks)
    whole = sum(packed)
    live, candidate, changes = _scores(_unpack(layout, whole), count)
    present = _present(layout, units, count)
    widening = [_widening(held, len(units)) for held in present]
    lows: list[float] = []
    highs: list[float] = []
    by_class: list[list[float]] = [[] for _ in range(count)]
    if len(units) > 1:
        rng = random.Random(seed)
        for _ in range(draws):
            drawn = _unpack(layout, sum(rng.choices(units, k=len(units))))
            changed = _scores(drawn, count)[2]
            low, high = _drawn_gain(changes, changed, widening)
            lows.append(low)
            highs.append(high)
            for values, change in zip(by_class, changed, strict=True):
                if change is not None:
                    values.append(change)
    return Comparison(
        live=live,
        candidate=candidate,
        gain=_bounds(candidate - live, lows, len(units), confidence, highs),
        classes=tuple(
            None if change is None else _bounds(change, values, len(units), confidence)
            for change, values in zip(changes, by_class, strict=True)
        ),
        pixels=_unpack(layout, whole)[:count],
        samples=len(pairs),
        units=len(units),
        unit=unit,
        class_units=present,
    )


def mean_change(
    changes: Sequence[float],
    blocks: Sequence[Hashable],
    *,
    confidence: float = 0.9,
) -> Bounded:
    """Return the mean of the differences, one for each sample, with bounds from draws of blocks.

    Raises:
        ValueError: `changes` is empty.
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
        rng = random.Random(0)
        for _ in range(DRAWS):
            drawn = rng.choices(units, k=len(units))
            means.append(sum(total for total, _ in drawn) / sum(number for _, number in drawn))
    return _bounds(point, means, len(units), confidence)


def _pack(layout: struct.Struct, pair: Pair) -> int:
    """Pack all counts of a sample in one integer, 64 bits each: adding samples is then one addition."""
    values = (
        *pair.labelled,
        *pair.live_hits,
        *pair.live_predicted,
        *pair.candidate_hits,
        *pair.candidate_predicted,
    )
    try:
        return int.from_bytes(layout.pack(*values), "little")
    except struct.error as error:
        raise ValueError(
            f"each count of a sample needs {len(pair.labelled)} classes, whole numbers from 0: {error}"
        ) from error


def _unpack(layout: struct.Struct, packed: int) -> tuple[int, ...]:
    return layout.unpack(packed.to_bytes(layout.size, "little"))


def _present(layout: struct.Struct, units: Sequence[int], classes: int) -> tuple[int, ...]:
    """Return, by class, the number of units that have a labelled pixel of it."""
    labelled = [_unpack(layout, unit)[:classes] for unit in units]
    return tuple(sum(counts[number] > 0 for counts in labelled) for number in range(classes))


def _units(packed: Sequence[int], blocks: Sequence[Hashable]) -> tuple[list[int], str]:
    sums: dict[Hashable, int] = {}
    for value, block in zip(packed, blocks, strict=True):
        sums[block] = sums.get(block, 0) + value
    if len(sums) >= MIN_BLOCKS:
        return list(sums.values()), "block"
    return list(packed), "sample"


def _scores(counts: tuple[int, ...], classes: int) -> tuple[float, float, list[float | None]]:
    """Return the mIoU of both models over the classes that the labels hold, and the change of each class."""
    live = candidate = 0.0
    present = 0
    changes: list[float | None] = [None] * classes
    for index in range(classes):
        labelled = counts[index]
        if not labelled:
            continue
        live_hits, candidate_hits = counts[classes + index], counts[3 * classes + index]
        before = live_hits / (labelled + counts[2 * classes + index] - live_hits)
        after = candidate_hits / (labelled + counts[4 * classes + index] - candidate_hits)
        live += before
        candidate += after
        changes[index] = after - before
        present += 1
    return live / max(1, present), candidate / max(1, present), changes


def _widening(held: int, units: int) -> float | None:
    """Return by how much a class's deviations are too small beside those of a class that all units hold.

    None for a class that one unit alone holds: its change is the same in every draw that has it.
    """
    if held < 2 or units < 2:
        return None
    return math.sqrt((held / (held - 1)) / (units / (units - 1)))


def _drawn_gain(
    changes: Sequence[float | None], drawn: Sequence[float | None], widening: Sequence[float | None]
) -> tuple[float, float]:
    """Return the gain of mIoU in one draw, for the lower and for the upper bound."""
    low = high = 0.0
    present = 0
    for point, change, factor in zip(changes, drawn, widening, strict=True):
        if point is None or change is None:
            continue
        present += 1
        value = change if factor is None else point + (change - point) * factor
        low += min(0.0, value) if factor is None else value
        high += value
    return low / max(1, present), high / max(1, present)


def _bounds(
    point: float, drawn: list[float], units: int, confidence: float, highs: list[float] | None = None
) -> Bounded:
    """Return a figure with its bounds; ``highs`` are the draws for the upper one where they differ."""
    if units < 2 or not drawn:
        return Bounded(point)
    drawn.sort()
    above = drawn if highs is None else sorted(highs)
    widen = math.sqrt(units / (units - 1))
    # The nearest rank towards the outside is taken, so that a bound is never too narrow.
    rank = int((1.0 - confidence) * len(drawn))
    lower = min(point, point + (drawn[rank] - point) * widen)
    upper = max(point, point + (above[len(above) - 1 - rank] - point) * widen)
    return Bounded(point, lower, upper)
