"""What a board and its fleet's server say to each other: a JSON part, and a part of bytes where one belongs.

A board asks and the server answers; the server never begins. Files travel in pieces of at most ``PIECE``
bytes, and each side says how much it has, so a link that breaks costs one piece.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.policies.fleet.rules import Tally

__all__ = [
    "MOST_HEADER",
    "MOST_PART",
    "PIECE",
    "SPEAKS",
    "VERSION",
    "Answer",
    "Ask",
    "BoardNews",
    "Boards",
    "Change",
    "Get",
    "MessageError",
    "OfferRef",
    "OfferState",
    "Piece",
    "Put",
    "Refusal",
    "Release",
    "Score",
    "Scored",
    "Stored",
    "Sync",
    "Synced",
    "Who",
    "decode_answer",
    "decode_ask",
    "encode",
]

#: Version of these messages.
VERSION = 1
#: What a server of this version understands beyond the first one: 2 is changes against releases, and ``Who``.
SPEAKS = 2
#: Bytes of a file in one message.
PIECE = 256 * 1024
#: Bytes of the JSON part.
MOST_HEADER = 64 * 1024
#: What libzmq may take for one part: encryption adds to its bytes.
MOST_PART = PIECE + 4096
_MOST_LINEAGE = 16
#: The name of a file: its SHA-256. Both ends make paths of it.
Name = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_NameOrNone = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")]
#: Bytes, or the number of a version. Python's own have no end, those of files and of metrics do.
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class MessageError(ValueError):
    """Error: the bytes are no message of this protocol."""


class OfferRef(msgspec.Struct, frozen=True, kw_only=True):
    """A board's offer: the SHA-256 of its file, its size, and the release that it is counted from.

    ``against`` is empty for an offer that is whole.
    """

    id: Name
    size: Count
    against: _NameOrNone = ""


class Sync(msgspec.Struct, frozen=True, kw_only=True, tag="sync", tag_field="op"):
    """A board says how it is and asks for news.

    Attributes:
        root: SHA-256 of the root of its model.
        lineage: SHA-256 of the releases that it has taken, newest first.
        offer: What it offers now; None before its first promoted round.
        refused: The release that its own gate refused last, empty if it took the last one.
        program: Version of its program, for people.
        session: A random word of this run of its daemon, by which two boards with one kit are told apart.
    """

    id: int
    v: int = VERSION
    root: str
    lineage: tuple[str, ...] = ()
    offer: OfferRef | None = None
    refused: str = ""
    program: str = ""
    session: str = ""


class Put(msgspec.Struct, frozen=True, kw_only=True, tag="put", tag_field="op"):
    """A piece of the board's offer, from ``offset`` on."""

    id: int
    v: int = VERSION
    offer: OfferRef
    offset: Count


class Get(msgspec.Struct, frozen=True, kw_only=True, tag="get", tag_field="op"):
    """The board wants a piece of a release."""

    id: int
    v: int = VERSION
    sha256: Name
    offset: Count


class Score(msgspec.Struct, frozen=True, kw_only=True, tag="score", tag_field="op"):
    """A volunteer's counts of a candidate and of the published release, on the same held-out frames."""

    id: int
    v: int = VERSION
    sha256: Name
    candidate: Tally
    against: Name
    published: Tally


class Who(msgspec.Struct, frozen=True, kw_only=True, tag="who", tag_field="op"):
    """The board wants to know who is in the fleet, for people."""

    id: int
    v: int = VERSION


Ask = Sync | Put | Get | Score | Who

#: unknown: the server lacks it and wants it; waiting: for a version; judging: in a candidate; used: in a
#: published version; declined: in one that did not gain; refused: it cannot be taken, see the reason.
OfferStateName = Literal["unknown", "waiting", "judging", "used", "declined", "refused"]


class OfferState(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an offer.

    Attributes:
        have: The bytes that have arrived.
        whole: Whether the server lacks the release that the offer is counted from, and wants it whole.
    """

    id: Name
    state: OfferStateName
    have: Count = 0
    version: Count = 0
    reason: str = ""
    whole: bool = False


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A file of ``size`` bytes that makes the release ``release`` of the release ``base``."""

    release: Name
    base: Name
    sha256: Name
    size: Count


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet version that a board may fetch."""

    number: Count
    sha256: Name
    size: Count


class Synced(msgspec.Struct, frozen=True, kw_only=True, tag="synced"):
    """The server's news.

    Attributes:
        published: The newest published version.
        candidate: A version that volunteers are asked to score; None if there is none.
        voted: Whether this board has scored it.
        offer: The state of the board's offer.
        set_back: Whether the server does not know the release that the board took last: it was restored from
            an old backup.
        next_s: Seconds after which the board asks again.
        speaks: What the server understands, see :data:`SPEAKS`.
        changes: Files that make the newest releases of those before, in no order.
    """

    id: int
    published: Release
    candidate: Release | None = None
    voted: bool = False
    offer: OfferState | None = None
    set_back: bool = False
    next_s: float = 300.0
    speaks: int = 1
    changes: tuple[Change, ...] = ()


class Stored(msgspec.Struct, frozen=True, kw_only=True, tag="stored"):
    """The receipt of a piece; once ``offer.state`` is not "unknown", that of the whole offer."""

    id: int
    offer: OfferState


class Piece(msgspec.Struct, frozen=True, kw_only=True, tag="piece"):
    """A piece of a release follows."""

    id: int
    size: Count


class Scored(msgspec.Struct, frozen=True, kw_only=True, tag="scored"):
    """The receipt of a vote; ``counted`` says whether it came in time, else why not."""

    id: int
    counted: bool
    reason: str = ""


class BoardNews(msgspec.Struct, frozen=True, kw_only=True):
    """One board, as the server knows it.

    Attributes:
        name: Of the board.
        heard_s: Seconds since it was heard of.
        version: The version that it has taken last; 0 is the root.
        refused: The version that its own gate refused last; None for none.
        gain: mIoU of the newest version that it scored over the one before, on its own held-out frames;
            None for none.
        waiting: Whether an offer of it waits for a version.
        sent, received: Bytes of files since the server's start, as the board sees it.
    """

    name: str
    heard_s: float
    version: Count = 0
    refused: Count | None = None
    gain: float | None = None
    waiting: bool = False
    sent: Count = 0
    received: Count = 0


class Boards(msgspec.Struct, frozen=True, kw_only=True, tag="boards"):
    """Who is in the fleet: those heard of last, and how many there are."""

    id: int
    count: Count
    boards: tuple[BoardNews, ...]


class Refusal(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """A request was not served: the reason, and the seconds after which to try again; 0 for not as it is."""

    id: int
    reason: str
    retry_s: float = 0.0


Answer = Synced | Stored | Piece | Scored | Boards | Refusal

_asks: msgspec.json.Decoder[Ask] = msgspec.json.Decoder(Ask)
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


def encode(message: Ask | Answer) -> bytes:
    """Encode a message's JSON part."""
    return msgspec.json.encode(message)


def decode_ask(data: bytes) -> Ask:
    """Decode a board's request.

    Raises:
        MessageError: It is none, too long, or of another version of the protocol.
    """
    if len(data) > MOST_HEADER:
        raise MessageError(f"a request has at most {MOST_HEADER} bytes")
    try:
        ask = decode(data, _asks)
    except DocumentError as error:
        raise MessageError(f"no request of a board: {error}") from error
    if ask.v != VERSION:
        raise MessageError(f"protocol {ask.v}, this server speaks {VERSION}: install the same release")
    if isinstance(ask, Sync) and len(ask.lineage) > _MOST_LINEAGE:
        raise MessageError(f"a lineage of at most {_MOST_LINEAGE} releases")
    return ask


def decode_answer(data: bytes) -> Answer:
    """Decode the server's answer.

    Raises:
        MessageError: It is none.
    """
    try:
        return decode(data, _answers)
    except DocumentError as error:
        raise MessageError(f"no answer of a fleet's server: {error}") from error
