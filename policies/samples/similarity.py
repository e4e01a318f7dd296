"""Similarity of two frames by their signatures: texts of hex digits, one for each cell of a thumbnail.

The distance is the sum of the digits' differences. Each digit is written as so many set bits as it counts, so
one exclusive-or and one count of bits compare two whole frames, without numpy.
"""

from __future__ import annotations

from functools import cache

__all__ = ["NEAR", "code", "distance", "near", "stored_light"]

#: Frames at most this far apart count as near-duplicates: a JPEG at quality 50 or sensor noise of ten grey
#: levels moves a frame by up to 4, a car that appears at a sixth of the frame's height by 7.
NEAR = 4

_DIGITS = "0123456789abcdef"
#: Enough for one bit for each level above the lowest.
_BYTES = 2


def code(signature: str) -> int | None:
    """Convert a signature to a number whose set bits can be compared; None if the text is no signature."""
    try:
        return (
            int.from_bytes(b"\1" + b"".join(map(_table().__getitem__, signature)), "big")
            if signature
            else None
        )
    except KeyError:
        return None


def stored_light(signature: str) -> int:
    """The light of a stored sample, from its signature: 0 to 7 by its mean brightness, -1 where unknown.

    The signature's last digit tells it in sixteenths of full scale, see ``images/signature.py``.
    Coarser than ``stream.lights``, but known of every sample and the same after every restart.
    """
    level = _DIGITS.find(signature[-1:]) if signature else -1
    return level // 2 if level >= 0 else -1


def distance(one: int | None, other: int | None) -> int | None:
    """Return the sum of the differences of all cells; None if either is unknown or their lengths differ."""
    if one is None or other is None or one.bit_length() != other.bit_length():
        return None
    return (one ^ other).bit_count()


def near(one: int | None, other: int | None) -> bool:
    """Return whether two frames are near-duplicates; frames without a signature never are."""
    found = distance(one, other)
    return found is not None and found <= NEAR


@cache
def _table() -> dict[str, bytes]:
    return {digit: ((1 << level) - 1).to_bytes(_BYTES, "big") for level, digit in enumerate(_DIGITS)}
