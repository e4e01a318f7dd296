"""What an update counts in the average of a fleet, and when a version is made and published.

The rules weigh three dangers: a board that was away hands in what it learnt from an old version, a board
claims more samples than others could have, and a board hands in weights that are broken or hostile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["FleetRules", "Waiting", "clip_factor", "due", "is_better", "staleness", "weight"]


@dataclass(frozen=True, kw_only=True)
class FleetRules:
    """The rules of a fleet's server.

    Attributes:
        most_samples: Samples of one offer that count at most.
        oldest_base: An offer that began with a version older by more than this is refused.
        norm_multiple: A change longer than this many times the median of all is shortened to it.
        robust_from: Number of boards that have a channel from which on its median counts, not its mean.
        least_offers: Offers from as many boards make a version at once.
        longest_wait_s: A version is made of fewer, at least two, when the oldest has waited this long, s.
        least_gain: mIoU that a version must gain over the published one, on all volunteers' frames together.
    """

    most_samples: int = 200
    oldest_base: int = 10
    norm_multiple: float = 3.0
    robust_from: int = 5
    least_offers: int = 3
    longest_wait_s: float = 24 * 3600.0
    least_gain: float = 0.0


@dataclass(frozen=True)
class Waiting:
    """An admitted offer that no version was made of: the board, and how long it has waited in seconds."""

    board: str
    waited_s: float


def weight(rules: FleetRules, samples: int) -> float:
    """Return what an offer counts by its samples: their root, so that no board outweighs many others.

    At least 1, and at most the root of ``most_samples``.
    """
    return math.sqrt(min(max(samples, 1), rules.most_samples))


def staleness(rules: FleetRules, behind: int) -> float | None:
    """Return the factor in (0, 1] for an offer that began with a version ``behind`` versions ago.

    None refuses it: too much has changed since. An offer of the newest version has the factor 1; the decline
    by the root is that of buffered asynchronous averaging (FedBuff, arXiv 2106.06639).
    """
    if behind < 0 or behind > rules.oldest_base:
        return None
    return 1.0 / math.sqrt(1.0 + behind)


def clip_factor(rules: FleetRules, norm: float, norms: Sequence[float]) -> float:
    """Return the factor in [0, 1] that shortens a change to ``norm_multiple`` times the median length.

    Args:
        rules: The rules.
        norm: Length of the change, relative to the weights that it changes.
        norms: The lengths of all offers that are averaged together, this one among them.
    """
    if not math.isfinite(norm):
        return 0.0
    known = [each for each in norms if math.isfinite(each)]
    most = rules.norm_multiple * median(known) if known else 0.0
    return 1.0 if norm <= most else most / norm


def due(rules: FleetRules, waiting: Sequence[Waiting]) -> bool:
    """Return whether a version is to be made of the waiting offers now."""
    boards = {each.board for each in waiting}
    if len(boards) >= rules.least_offers:
        return True
    return len(boards) >= 2 and max(each.waited_s for each in waiting) >= rules.longest_wait_s


def is_better(
    rules: FleetRules, candidate: Sequence[Sequence[int]], published: Sequence[Sequence[int]]
) -> bool:
    """Return whether a candidate beats the published version by the volunteers' summed counts.

    Args:
        rules: The rules.
        candidate: Confusion matrix (classes, classes), rows are labels, of the candidate.
        published: The same of the published version, on the same pixels.

    Raises:
        ValueError: The two are not on the same pixels.
    """
    if [sum(row) for row in candidate] != [sum(row) for row in published]:
        raise ValueError("the two matrices count other pixels")
    return miou(candidate) - miou(published) > rules.least_gain


def miou(counts: Sequence[Sequence[int]]) -> float:
    """Return the mean IoU of the classes that occur in labels or predictions; 0 if there are none."""
    found = []
    for index, row in enumerate(counts):
        union = sum(row) + sum(other[index] for other in counts) - row[index]
        if union:
            found.append(row[index] / union)
    return sum(found) / len(found) if found else 0.0
