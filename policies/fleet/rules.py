"""What an update counts in the average of a fleet, and when a version is made and published.

The rules weigh three dangers: a board that was away hands in what it learnt from an old version, a board
claims more samples than others could have, and a board hands in weights that are broken or hostile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

__all__ = [
    "SHARES",
    "Decision",
    "FleetRules",
    "Tally",
    "Vote",
    "Waiting",
    "clip_factor",
    "decide",
    "due",
    "is_better",
    "miou_of",
    "next_share",
    "staleness",
    "weight",
]


#: How far a board goes from its own values to a version's, in the order in which it tries.
SHARES = (1.0, 0.5)


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
        least_share: Offers from this share of the boards that were seen lately make a version, if that is
            more than ``least_offers``: each version costs every board a download and a judgement.
        least_gain: mIoU that a version must gain over the published one, on all volunteers' frames together.
        least_votes: Volunteers whose counts are waited for, or as many as there are boards.
        longest_vote_s: After so many seconds the counts that came decide; none at all decline a version.

    Raises:
        ValueError: A value is out of range.
    """

    most_samples: int = 200
    oldest_base: int = 10
    norm_multiple: float = 3.0
    robust_from: int = 5
    least_offers: int = 3
    longest_wait_s: float = 24 * 3600.0
    least_share: float = 0.1
    least_gain: float = 0.0
    least_votes: int = 3
    longest_vote_s: float = 24 * 3600.0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("most_samples", 1, math.inf),
            ("oldest_base", 0, math.inf),
            ("norm_multiple", 0.0, math.inf),
            ("robust_from", 1, math.inf),
            ("least_offers", 1, math.inf),
            ("longest_wait_s", 0.0, math.inf),
            ("least_share", 0.0, 1.0),
            ("least_gain", -1.0, 1.0),
            ("least_votes", 0, math.inf),
            ("longest_vote_s", 0.0, math.inf),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and least <= value <= most):
                allowed = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:g}"
                raise ValueError(f"{name} is {value}; give {allowed}")


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


def due(rules: FleetRules, waiting: Sequence[Waiting], boards_seen: int = 0) -> bool:
    """Return whether a version is to be made of the waiting offers now.

    Args:
        rules: The rules.
        waiting: The waiting offers.
        boards_seen: Boards that were heard of lately.
    """
    boards = {each.board for each in waiting}
    if boards and len(boards) >= max(rules.least_offers, math.ceil(rules.least_share * boards_seen)):
        return True
    return len(boards) >= 2 and max(each.waited_s for each in waiting) >= rules.longest_wait_s


def next_share(verdicts: Sequence[str], shares: Sequence[float] = SHARES) -> float | None:
    """Return how far a board is to go to a published version the next time it judges it.

    A version gains on scenes that a board has not seen, and often costs the board some of its own. A board
    whose gate refuses all of it goes part of the way: between models that began alike, such a mean keeps most
    of what both know (elastic averaging, arXiv 1412.6651; Wortsman et al., arXiv 2109.01903).

    Args:
        verdicts: The outcomes of this board's earlier rounds on the version that came to a verdict.
        shares: What it tries, in order; above 0, at most 1.

    Returns:
        One of ``shares``; None where the version was taken, or all were refused.
    """
    if any(outcome != "rejected" for outcome in verdicts) or len(verdicts) >= len(shares):
        return None
    return shares[len(verdicts)]


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


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Pixels of a board's held-out frames by class, in the order of the fleet's classes.

    Attributes:
        truth: Labelled as the class.
        predicted: Segmented as the class, where there is a label: of a class that the fleet lacks too.
        hits: Both.
    """

    truth: tuple[int, ...]
    predicted: tuple[int, ...]
    hits: tuple[int, ...]

    def fault(self, classes: int) -> str:
        """Return why these are no counts of so many classes; empty if they are."""
        if not len(self.truth) == len(self.predicted) == len(self.hits) == classes:
            return f"counts of {classes} classes are needed"
        columns = zip(self.truth, self.predicted, self.hits, strict=True)
        if any(not 0 <= hits <= min(truth, predicted) for truth, predicted, hits in columns):
            return "more pixels were hit than there are, or fewer than none"
        if not sum(self.truth) or self.pixels > _MOST_PIXELS:
            return "no pixels, or more than anybody has"
        return ""

    @property
    def pixels(self) -> int:
        """Labelled pixels that are counted at least."""
        return max(sum(self.truth), sum(self.predicted))


#: Pixels that a board may claim to have labelled: 4096 frames of 16 megapixels.
_MOST_PIXELS = 1 << 36


@dataclass(frozen=True, kw_only=True)
class Vote:
    """A volunteer's counts of a candidate and of the published version, on the same frames."""

    board: str
    candidate: Tally
    published: Tally

    @property
    def pixels(self) -> int:
        """What it weighs."""
        return max(self.candidate.pixels, self.published.pixels)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of a candidate, why, and the mIoU of both on all volunteers' frames."""

    outcome: Literal["wait", "published", "declined"]
    reason: str
    candidate: float = 0.0
    published: float = 0.0


def decide(rules: FleetRules, votes: Sequence[Vote], *, volunteers: int, waited_s: float) -> Decision:
    """Decide whether a candidate is published.

    A volunteer with many more labelled pixels than the median counts as one with ``norm_multiple`` times the
    median, so that no board outvotes all others by what it claims.

    Args:
        rules: The rules.
        votes: At most one of each board.
        volunteers: Boards that were heard of lately and could vote.
        waited_s: Seconds since the candidate was made.
    """
    needed = max(1, min(rules.least_votes, volunteers))
    if len(votes) < needed and waited_s < rules.longest_vote_s:
        return Decision(outcome="wait", reason=f"{len(votes)} of {needed} volunteers have scored it")
    if not votes:
        return Decision(outcome="declined", reason="no volunteer scored it in time")
    most = rules.norm_multiple * median(vote.pixels for vote in votes)
    shares = [min(1.0, most / vote.pixels) for vote in votes]
    new = miou_of([vote.candidate for vote in votes], shares)
    old = miou_of([vote.published for vote in votes], shares)
    words = f"mIoU {old:.3f} -> {new:.3f} on the frames of {len(votes)} boards"
    if new - old > rules.least_gain:
        return Decision(outcome="published", reason=words, candidate=new, published=old)
    reason = f"{words}: more than {rules.least_gain:+.3f} is required"
    return Decision(outcome="declined", reason=reason, candidate=new, published=old)


def miou_of(tallies: Sequence[Tally], shares: Sequence[float] | None = None) -> float:
    """Return the mean IoU of the labelled classes over weighted tallies together; 0 if there are none."""
    weights = shares or [1.0] * len(tallies)
    found = []
    for index in range(len(tallies[0].truth) if tallies else 0):
        truth, predicted, hits = (
            sum(share * getattr(tally, name)[index] for share, tally in zip(weights, tallies, strict=True))
            for name in ("truth", "predicted", "hits")
        )
        if truth > 0:
            found.append(hits / (truth + predicted - hits))
    return sum(found) / len(found) if found else 0.0
