"""Frames that repeat what is kept already: a camera that is frozen, or that nothing moves in front of.

A repetition is known by its signature, which a burnt-in clock, noise or another compression do not change.
Of many repetitions of one picture the first, second, fourth, eighth and so on are kept: that grows with the
logarithm of their number, so they can never fill a store, and a scene that does stand still is not lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dance_ondevice.policies.samples.similarity import near

__all__ = ["MEMORY", "Picture", "find", "is_kept_again", "remember", "repeated"]

#: A frame is compared with so many pictures that were kept last.
MEMORY = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A picture that was kept.

    Attributes:
        code: its signature, see ``similarity.code``.
        label: what tells its label from others; "" without one.
        repeats: how often it has come again.
    """

    code: int
    label: str = ""
    repeats: int = 0


def find(kept: Sequence[Picture], code: int | None, label: str = "") -> int | None:
    """The place of the picture that a frame repeats; the latest is compared first.

    A frame with a label repeats only a picture with the same label: another label is news.

    Args:
        kept: what was kept, oldest first.
        code: of the frame; None repeats nothing.
        label: of the frame; "" without one.
    """
    if code is None:
        return None
    for place in range(len(kept) - 1, -1, -1):
        picture = kept[place]
        if (not label or label == picture.label) and near(code, picture.code):
            return place
    return None


def repeated(kept: tuple[Picture, ...], place: int) -> tuple[Picture, ...]:
    """The pictures after the one at a place has come once more: it is the latest now."""
    again = replace(kept[place], repeats=kept[place].repeats + 1)
    return (*kept[:place], *kept[place + 1 :], again)


def is_kept_again(repeats: int) -> bool:
    """Whether a picture is kept when it comes for this many-th time again."""
    return repeats > 0 and repeats & (repeats - 1) == 0


def remember(kept: tuple[Picture, ...], code: int | None, label: str = "") -> tuple[Picture, ...]:
    """The pictures after another one was kept."""
    if code is None:
        return kept
    return (*kept[-(MEMORY - 1) :], Picture(code=code, label=label))
