"""Probability of a frame to be kept by its rank among similar frames, and its scale and weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

__all__ = ["Odds", "draw"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Odds:
    """Probabilities with which frames are dropped.

    Attributes:
        drop_fraction: Mean probability over all ranks, in [0, 1).
        by_complexity: True lets the probability fall linearly with the rank; it is limited so that no kept
            frame has a weight above 2.
    """

    drop_fraction: float
    by_complexity: bool

    def drop_chance(self, quantile: float) -> float:
        """Return the probability with which a frame of a rank in [0, 1) is dropped."""
        return self.drop_fraction + self._tilt * (1.0 - 2.0 * quantile)

    def place(self, quantile: float) -> float:
        """Return the share of simpler kept frames: the integral of the probability to be kept, in [0, 1)."""
        kept = 1.0 - self.drop_fraction
        return (quantile * (kept - self._tilt) + self._tilt * quantile * quantile) / kept

    def weight(self, quantile: float) -> float:
        """Return the inverse probability to be kept, scaled so that the mean over kept frames is 1."""
        return (1.0 - self.drop_fraction) / (1.0 - self.drop_chance(quantile))

    def scale(self, quantile: float, scales: Sequence[float]) -> float:
        """Return the scale of a kept frame: scales get equal shares, the largest the most complex frames."""
        rising = sorted(scales)
        return rising[min(int(self.place(quantile) * len(rising)), len(rising) - 1)]

    @property
    def _tilt(self) -> float:
        return min(self.drop_fraction, (1.0 - self.drop_fraction) / 2) if self.by_complexity else 0.0


def draw(seed: int, number: int, what: str) -> float:
    """Return a seeded draw, uniform in [0, 1): a function of its arguments only."""
    # 32 bits: sums with whole numbers stay exact, so that a rank is below 1 and monotone to the last bit.
    digest = blake2b(f"{seed}/{number}/{what}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 2**32
