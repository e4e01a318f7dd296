"""How a frame is decoded before it is known what becomes of it: once, for all that will need its pixels.

Most of decoding is reading the compressed data, whatever comes out, so that a second decode costs more than
a first one in colour or at full size that may not have been needed. The costs are CPU time relative to a
reduced grey decode of a 640x480 JPEG; ``bench service`` shows what follows from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

__all__ = ["REDUCTIONS", "Decoding", "first_decoding", "reduction"]

#: Whole fractions of the size that a JPEG is decoded to directly, the smallest image first.
REDUCTIONS = (8, 4, 2, 1)
#: Of a reduced decode in colour and of a full one, and of making the grey image from either.
_COLOUR, _FULL = 1.2, 1.45
_COLOUR_TO_GREY, _FULL_TO_GREY = 0.07, 0.32


@dataclass(frozen=True, slots=True)
class Decoding:
    """A way to decode a frame.

    Attributes:
        colour: Whether colours are decoded; luma alone is cheaper and serves the score only.
        reduce: Whole fraction of the size that it is decoded to.
    """

    colour: bool
    reduce: int


def reduction(scale: float) -> int:
    """Return the strongest reduction of a decode that still has every pixel of an image at ``scale``."""
    return next(each for each in REDUCTIONS if scale * each <= 1 or each == 1)


@lru_cache(maxsize=64)
def first_decoding(
    scales: tuple[float, ...], *, drop_fraction: float, served_share: float, measured_at: int
) -> Decoding:
    """Choose the decode of a frame whose decision is not known yet, by the least expected cost.

    Args:
        scales: Scales that the policy chooses from, each about as often.
        drop_fraction: Share of the frames that is not stored.
        served_share: Share of the frames that is segmented; choices are remembered, so round it.
        measured_at: Reduction of the grey image that the score is computed from.

    Returns:
        The decode; its reduction is ``measured_at`` or less, so that the score can be computed from it.
    """
    options = [
        (1.0, Decoding(colour=False, reduce=measured_at)),
        (_FULL + _FULL_TO_GREY, Decoding(colour=True, reduce=1)),
    ]

    if measured_at > 1:
        options.insert(1, (_COLOUR + _COLOUR_TO_GREY, Decoding(colour=True, reduce=measured_at)))

    def expected(cost: float, first: Decoding) -> float:
        return cost + sum(rest(first, scale) for scale in scales) / max(1, len(scales))

    def rest(first: Decoding, scale: float) -> float:
        """Cost of the second decode, where one is needed for a scale."""
        if first.colour and first.reduce * scale <= 1:
            return 0.0
        # At full size the file is stored as it came.
        stored = 0.0 if scale >= 1 else 1.0 - drop_fraction
        return max(stored, served_share) * (_COLOUR if reduction(scale) > 1 else _FULL)

    return min(options, key=lambda option: expected(*option))[1]
