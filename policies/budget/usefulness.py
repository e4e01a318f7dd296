"""Usefulness of learning: its gain over the first model, its joules, and when rounds are suspended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["JudgedRound", "Usefulness", "suspended", "usefulness"]

_ROUNDING = 1e-9
#: Outcomes of rounds that were judged; the other rounds are no evidence about learning.
_JUDGED = ("promoted", "rejected", "rolled_back")


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedRound:
    """Outcome and scores of a finished round.

    All mIoU are fractions of 1 on the same held-out samples, None where not measured.

    Attributes:
        outcome: Outcome: "promoted", "rejected", "rolled_back", "stopped" or "failed".
        before: mIoU of the live model.
        after: mIoU of the candidate.
        frozen: mIoU of the first model.
    """

    outcome: str
    before: float | None
    after: float | None
    frozen: float | None

    @property
    def live(self) -> float | None:
        """Return the mIoU of the model that was live after the round."""
        return self.after if self.outcome == "promoted" else self.before

    @property
    def gain(self) -> float | None:
        """Return the gain of mIoU of the model that was live after the round over the first model."""
        live = self.live
        return None if live is None or self.frozen is None else live - self.frozen


@dataclass(frozen=True, kw_only=True, slots=True)
class Usefulness:
    """Gain and cost of learning so far.

    Attributes:
        live: mIoU of the live model when it was last measured on held-out samples.
        frozen: mIoU of the first model on the same samples.
        joules: Gross joules of all rounds.
    """

    live: float | None
    frozen: float | None
    joules: float

    @property
    def gain(self) -> float | None:
        """Return the gain of mIoU over the first model; None if not measured."""
        return None if self.live is None or self.frozen is None else self.live - self.frozen

    @property
    def gain_per_kilojoule(self) -> float | None:
        """Return the gain of mIoU per kilojoule; None while nothing was measured or spent."""
        gain = self.gain
        return None if gain is None or self.joules <= 0.0 else gain / (self.joules / 1000.0)


def usefulness(rounds: Sequence[JudgedRound], joules: float) -> Usefulness:
    """Return the usefulness of learning by the latest measurement.

    Args:
        rounds: Finished rounds, oldest first.
        joules: Gross joules that all rounds have spent.
    """
    for each in reversed(rounds):
        if each.gain is not None:
            return Usefulness(live=each.live, frozen=each.frozen, joules=joules)
    return Usefulness(live=None, frozen=None, joules=joules)


def suspended(rounds: Sequence[JudgedRound], after_rounds: int) -> str | None:
    """Return why no more rounds start by themselves, or None if they do.

    They are suspended when after each of the last `after_rounds` judged rounds the live model was no better
    on held-out samples than the first model. A round that the user asks for still runs, and ends the
    suspension when it helps.

    Args:
        rounds: Finished rounds, oldest first.
        after_rounds: Number of rounds without a gain that suspends; 0 means never.
    """
    judged = [each for each in rounds if each.outcome in _JUDGED]
    if after_rounds < 1 or len(judged) < after_rounds:
        return None
    gains = [each.gain for each in judged[-after_rounds:] if each.gain is not None]
    # Without a first model that loads there is nothing to compare with: a promotion then counts as help.
    if any(gain > _ROUNDING for gain in gains) or (
        not gains and any(each.outcome == "promoted" for each in judged[-after_rounds:])
    ):
        return None
    best = f", at best by {max(gains):+.3f} mIoU" if gains else ""
    return (
        f"suspended: in the last {after_rounds} rounds learning has not made the model better than the first "
        f"one{best}; check the labels, ask for one round with train-now, or change "
        "training.suspend_after_rounds (0 never suspends)"
    )
