"""Which camera's name is forgotten when a new one comes and there are as many as may be told apart.

A name is up to its sender, so a program may use up all of them: a time stamp in the name is enough. It may
only use up its own. A name that was silent for a while may go; before that, one whose sender has more names
than the newcomer's would have, or as many and never used it again. Of those, names without a stored sample go
first, then those of a single frame, then those of whoever has most, then the longest silent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["SILENT_SECONDS", "KnownName", "gives_way"]

#: Seconds without a frame after which a name may be forgotten for anybody's new one.
SILENT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class KnownName:
    """A camera that is told apart.

    Attributes:
        name: its name.
        sender: who sent its latest frame: a client, or without keys a connection.
        frames: good frames so far.
        stored: whether samples of it are kept.
        heard: monotonic seconds of the latest frame.
    """

    name: str
    sender: str
    frames: int
    stored: bool
    heard: float


def gives_way(known: Collection[KnownName], sender: str, now: float) -> str | None:
    """The name to forget for a new one of ``sender``; None when none may go, and the new one is refused.

    Args:
        known: all names.
        sender: whose the new name is.
        now: monotonic seconds.
    """
    held = Counter(each.sender for each in known)
    share = held[sender] + 1

    def may_go(each: KnownName) -> bool:
        if now - each.heard >= SILENT_SECONDS:
            return True
        theirs = held[each.sender]
        return each.sender != sender and (theirs > share or (theirs == share and each.frames < 2))

    going = min(
        filter(may_go, known),
        key=lambda each: (each.stored, each.frames > 1, -held[each.sender], each.heard),
        default=None,
    )
    return going.name if going else None
