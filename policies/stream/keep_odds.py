"""The chance of a frame to be kept, by its rank among its like; scale and weight follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

__all__ = ["Odds", "draw"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Odds:
    """How likely frames are dropped.

    Attributes:
        drop_fraction: the mean over all ranks, in [0, 1).
        by_complexity: whether the chance falls with the rank, linearly; never is it so high that a kept frame
            would count more than twice.
    """

    drop_fraction: float
    by_complexity: bool

    def drop_chance(self, quantile: float) -> float:
        """The chance with which a frame of a rank in [0, 1) is dropped."""
        return self.drop_fraction + self._tilt * (1.0 - 2.0 * quantile)

    def place(self, quantile: float) -> float:
        """Share of the kept frames that are simpler: the integral of the chance to be kept, in [0, 1)."""
        kept = 1.0 - self.drop_fraction
        return (quantile * (kept - self._tilt) + self._tilt * quantile * quantile) / kept

    def weight(self, quantile: float) -> float:
        """The inverse of the chance to be kept, scaled so that the mean over kept frames is 1."""
        return (1.0 - self.drop_fraction) / (1.0 - self.drop_chance(quantile))

    def scale(self, quantile: float, scales: Sequence[float]) -> float:
        """The scale of a kept frame: each gets an equal share, the largest the most complex frames."""
        rising = sorted(scales)
        return rising[min(int(self.place(quantile) * len(rising)), len(rising) - 1)]

    @property
    def _tilt(self) -> float:
        return min(self.drop_fraction, (1.0 - self.drop_fraction) / 2) if self.by_complexity else 0.0


def draw(seed: int, number: int, what: str) -> float:
    """A seeded draw, uniform in [0, 1): a function of its arguments alone."""
    # 32 bits: sums with whole numbers stay exact, so that a rank is below 1 and monotone to the last bit.
    digest = blake2b(f"{seed}/{number}/{what}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 2**32
