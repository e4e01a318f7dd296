"""Repetitions of kept frames, from a camera that is frozen, or in front of which nothing moves.

A repetition is found by its signature, which a burnt-in clock, noise or another compression do not change.
Of many repetitions of one picture the first, second, fourth, eighth and so on are kept: that grows with the
logarithm of their number, so they can never fill a store, and a scene that does stand still is not lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dance_ondevice.policies.samples.similarity import NEAR, near

__all__ = ["MEMORY", "Picture", "find", "is_kept_again", "remember", "repeated"]

#: Number of the latest kept pictures that a frame is compared with.
MEMORY = 128
#: Place and length in bits of the part of a code that is compared first: about the picture's middle row.
_PART_AT, _PART_BITS = 800, 240


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A picture that was kept.

    Attributes:
        code: Signature, see ``similarity.code``.
        label: Identification of its label; "" without a label.
        repeats: Number of its repetitions.
        part: Some of the code's bits, to tell most pictures apart quickly.
    """

    code: int
    label: str = ""
    repeats: int = 0
    part: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "part", _part(self.code))


def find(kept: Sequence[Picture], code: int | None, label: str = "") -> int | None:
    """Return the index of the picture that a frame repeats, None if it is new; the latest is compared first.

    A frame with a label repeats only a picture with the same label.

    Args:
        kept: Kept pictures, oldest first.
        code: Signature of the frame; None repeats nothing.
        label: Identification of the frame's label; "" without a label.
    """
    if code is None:
        return None
    part = _part(code)
    # Where a part differs by more than is near, the whole does: nearly every picture is told by it.
    alike = [place for place, each in enumerate(kept) if (part ^ each.part).bit_count() <= NEAR]
    for place in reversed(alike):
        picture = kept[place]
        if (not label or label == picture.label) and near(code, picture.code):
            return place
    return None


def repeated(kept: tuple[Picture, ...], place: int) -> tuple[Picture, ...]:
    """Return the pictures after the one at index `place` was repeated, which becomes the latest."""
    again = replace(kept[place], repeats=kept[place].repeats + 1)
    return (*kept[:place], *kept[place + 1 :], again)


def is_kept_again(repeats: int) -> bool:
    """Return whether a picture is kept at its `repeats`-th repetition."""
    return repeats > 0 and repeats & (repeats - 1) == 0


def remember(kept: tuple[Picture, ...], code: int | None, label: str = "") -> tuple[Picture, ...]:
    """Return the pictures after another one was kept."""
    if code is None:
        return kept
    return (*kept[-(MEMORY - 1) :], Picture(code=code, label=label))


def _part(code: int) -> int:
    return code >> _PART_AT & (1 << _PART_BITS) - 1
