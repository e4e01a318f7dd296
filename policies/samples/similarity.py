"""Similarity of two frames by their signatures: texts of hex digits, one for each cell of a thumbnail.

The distance is the sum of the digits' differences. Each digit is written as so many set bits as it counts, so
one exclusive-or and one count of bits compare two whole frames, without numpy.
"""

from __future__ import annotations

__all__ = ["NEAR", "code", "distance", "near", "stored_light"]

#: Frames at most this far apart count as near-duplicates: a JPEG at quality 50 or sensor noise of ten grey
#: levels moves a frame by up to 4, a car that appears at a sixth of the frame's height by 7.
NEAR = 4

_DIGITS = "0123456789abcdef"
#: One set bit for each level above the lowest takes two bytes: the first of each digit, then the second.
_FIRST, _SECOND = (
    bytes.maketrans(_DIGITS.encode(), bytes((1 << min(8, max(0, level - more))) - 1 for level in range(16)))
    for more in (0, 8)
)


def code(signature: str) -> int | None:
    """Convert a signature to a number whose set bits can be compared; None if the text is no signature."""
    digits = signature.encode("ascii", "replace")
    if not digits or digits.translate(None, _DIGITS.encode()):
        return None
    return int.from_bytes(b"\1" + digits.translate(_FIRST) + digits.translate(_SECOND), "big")


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
