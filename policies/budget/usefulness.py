"""Has learning helped, at what cost, and is it time to stop spending joules on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["JudgedRound", "Usefulness", "suspended", "usefulness"]

_ROUNDING = 1e-9
#: Rounds whose candidate (or want of one) was judged; the others say nothing about learning.
_JUDGED = ("promoted", "rejected", "rolled_back")


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedRound:
    """A finished round; mIoU as fractions of 1 on the same held-out samples, None where not measured.

    Attributes:
        outcome: "promoted", "rejected", "rolled_back", "stopped" or "failed".
        before: of the live model.
        after: of the candidate.
        frozen: of the first model.
    """

    outcome: str
    before: float | None
    after: float | None
    frozen: float | None

    @property
    def live(self) -> float | None:
        """mIoU of what was live in the end."""
        return self.after if self.outcome == "promoted" else self.before

    @property
    def gain(self) -> float | None:
        """mIoU of what was live in the end over the first model's."""
        live = self.live
        return None if live is None or self.frozen is None else live - self.frozen


@dataclass(frozen=True, kw_only=True, slots=True)
class Usefulness:
    """What learning has brought so far.

    Attributes:
        live: mIoU of the live model when it was last measured on held-out samples.
        frozen: of the first model, on the same samples.
        joules: gross, of all rounds.
    """

    live: float | None
    frozen: float | None
    joules: float

    @property
    def gain(self) -> float | None:
        """mIoU over the first model."""
        return None if self.live is None or self.frozen is None else self.live - self.frozen

    @property
    def gain_per_kilojoule(self) -> float | None:
        """mIoU a kilojoule; None while nothing was measured or spent."""
        gain = self.gain
        return None if gain is None or self.joules <= 0.0 else gain / (self.joules / 1000.0)


def usefulness(rounds: Sequence[JudgedRound], joules: float) -> Usefulness:
    """What the latest measurement says.

    Args:
        rounds: finished ones, oldest first.
        joules: gross, that all rounds have spent.
    """
    for each in reversed(rounds):
        if each.gain is not None:
            return Usefulness(live=each.live, frozen=each.frozen, joules=joules)
    return Usefulness(live=None, frozen=None, joules=joules)


def suspended(rounds: Sequence[JudgedRound], after_rounds: int) -> str | None:
    """Why no more rounds start by themselves, or None.

    They are suspended when after each of the last `after_rounds` judged rounds the live model was no better
    on held-out samples than the first model. A round that the user asks for still runs, and ends the
    suspension when it helps.

    Args:
        rounds: finished ones, oldest first.
        after_rounds: 0 means never.
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
        f"one{best}; look at the labels, ask for one round with train-now, or change "
        "training.suspend_after_rounds (0 never suspends)"
    )
