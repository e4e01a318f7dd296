"""The ways to learn that ``bench fleet`` compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dance_ondevice.policies.fleet.rules import SHARES

__all__ = ["ARMS", "USUAL", "Way"]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to learn.

    Attributes:
        about: What it is.
        together: Boards exchange what they learn.
        late: Their last layers stay their own.
        whole: Models travel whole in 16 bits.
        shares: How far boards go to a version, in the order in which they try.
        pooled: All images are in one place.
        last: The last board is one as the others, has wrong labels, or takes no part.
    """

    about: str
    together: bool = False
    late: bool = False
    whole: bool = False
    shares: tuple[float, ...] = SHARES
    pooled: bool = False
    last: Literal["as others", "mislabelled", "absent"] = "as others"


ARMS: Mapping[str, Way] = {
    "alone": Way(about="each board learns from its own scene"),
    "fleet": Way(
        about=(
            "after each round an average is offered to all; each board's gate decides, and where it refuses "
            "all of it, on half of the way"
        ),
        together=True,
    ),
    "fleet, all or nothing": Way(
        about="the same, but a board whose gate refuses a version takes nothing of it",
        together=True,
        shares=(1.0,),
    ),
    "fleet, own late layers": Way(
        about="the same, but the last layers stay each board's own", together=True, late=True
    ),
    "all data": Way(
        about="each board's model learns from all boards' images in one place, for as many steps",
        pooled=True,
    ),
    "fleet, whole models": Way(
        about="as fleet, but models travel whole in 16 bits and not as changes", together=True, whole=True
    ),
    "fleet, one board mislabelled": Way(
        about=(
            "as fleet, but each class of the last board's labels bears the name of the next; that board is "
            "in no mean"
        ),
        together=True,
        last="mislabelled",
    ),
    "fleet, without that board": Way(
        about="as fleet, but without the last board, which is in no mean", together=True, last="absent"
    ),
}
#: What is measured unless others are asked for.
USUAL = ("alone", "fleet", "fleet, own late layers", "all data")
