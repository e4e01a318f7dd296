"""What a fleet's server knows, as plain values that lie on its disk as JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

from dance_ondevice.policies.fleet.rules import Tally

__all__ = ["BoardFacts", "ChangeFacts", "UsedOffer", "VersionFacts", "VersionStatus", "VoteFacts"]

VersionStatus = Literal["candidate", "published", "declined"]


class UsedOffer(msgspec.Struct, frozen=True, kw_only=True):
    """An offer that a version was made of.

    Attributes:
        board: Whose it is.
        id: Its name.
        base: Number of the version that it began with.
        key: The public key with which it came; empty of older releases of the program.
    """

    board: str
    id: str
    base: int
    key: str = ""


class ChangeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The file that makes a version's release of another one, ``base``."""

    base: str
    sha256: str
    size: int


class VoteFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A volunteer's counts of a candidate and of the published version; ``key`` is its public key then."""

    candidate: Tally
    published: Tally
    key: str = ""


class VersionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``facts.json`` of a version: it exists once this file does, and with it the use of its offers.

    Attributes:
        number: Its number; 0 is the root.
        sha256: Name of its release.
        size: Bytes of the release.
        made_at: When it was made, s since the epoch.
        status: Whether volunteers still score it, and what came of that.
        offers: The offers that it was made of.
        shortened: Boards whose change was shortened for its length, and the factor.
        votes: By board.
        reason: Why it was published or declined.
        miou: On all volunteers' frames; 0 before.
        change: What makes its release of the one before; None for the root, and for versions of old.
    """

    number: int
    sha256: str
    size: int
    made_at: float
    status: VersionStatus
    offers: tuple[UsedOffer, ...] = ()
    shortened: dict[str, float] = {}
    votes: dict[str, VoteFacts] = {}
    reason: str = ""
    miou: float = 0.0
    change: ChangeFacts | None = None


class BoardFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``facts.json`` of a board.

    Attributes:
        offer: The offer that arrived last; empty before the first.
        refused: Why that offer was refused; empty if it was admitted.
        base: Number of the version that it began with.
        samples: Labelled samples behind it.
        arrived_at: When it arrived, s since the epoch.
        used: The board's last offer in a published version, and the version that it began with.
        used_in: Number of that published version; 0 of older releases of the program.
        seen_at: When the board was heard of, to about an hour.
        has: The release that it has taken last; empty for the root.
        refuses: The release that its own gate refused last.
        key: The public key with which that offer came; empty of older releases of the program.
    """

    offer: str = ""
    refused: str = ""
    base: int = 0
    samples: int = 0
    arrived_at: float = 0.0
    used: UsedOffer | None = None
    used_in: int = 0
    seen_at: float = 0.0
    has: str = ""
    refuses: str = ""
    key: str = ""
