"""A board's files for its fleet: the offer that goes out, the releases that came in, what is known of both.

Two threads use it: that of rounds fills the offer and reads releases, that of the fleet's socket hands out
and takes in. An offer stays until a newer one takes its place, whatever the server has said: one that was
restored from an old backup asks for it again.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from dance_ondevice.daemon.rounds.fleet.releases import BoxError, Releases, Want
from dance_ondevice.daemon.wire.fleet_messages import Boards, OfferRef, OfferState, Release, Synced
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import write_durably
from dance_ondevice.fleet.root import Root
from dance_ondevice.policies.fleet.rules import Tally

__all__ = ["Ballot", "Box", "BoxFacts", "FleetPart", "Judged", "Snapshot", "offer_words"]

log = logging.getLogger(__name__)

_FACTS, _OFFER, _RELEASES = "box.json", "offer.safetensors", "releases"
#: Judgements of releases that are remembered.
_REMEMBERED = 32
#: How often it is asked who is in the fleet, and for how long after a person looked at it more often, s.
_WHO_EVERY_S, _LOOKING_S = 6 * 3600.0, 900.0
#: The link tries again every ten minutes at least.
_QUIET_S = 3600.0
#: Releases that were taken and are kept: the next offer is counted from one, also after a rollback.
_TAKEN_KEPT = 2


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What this board made of a release.

    Attributes:
        outcome: Whether it went live, was refused by this board's gate, or was scored for the fleet.
        reason: In words.
        gain: mIoU on this board's held-out frames over the model before.
        scoring: Whether it failed while it was scored for the fleet: its own gate judges it all the same.
    """

    sha256: str
    number: int
    outcome: Literal["taken", "refused", "scored", "failed"]
    reason: str = ""
    gain: float = 0.0
    scoring: bool = False


class Ballot(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of a candidate and of the published release, which wait to be fetched."""

    sha256: str
    candidate: Tally
    against: str
    published: Tally


class BoxFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``box.json``: what must survive a restart.

    Attributes:
        offer: The file that goes out, and the version that it was made of.
        news: The server's last news, and when they came, s since the epoch.
        judged: Releases that this board has judged, oldest first.
        ballot: Counts that the server has not yet got.
        given: Counts that it got last; one that was restored from a backup asks for them again.
    """

    offer: OfferRef | None = None
    offered: str = ""
    news: Synced | None = None
    heard_at: float = 0.0
    judged: tuple[Judged, ...] = ()
    ballot: Ballot | None = None
    given: Ballot | None = None


@dataclass(frozen=True, kw_only=True)
class FleetPart:
    """What makes a daemon one of a fleet: its files for it, and the root that all boards began with."""

    box: Box
    root: Root


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What ``status`` and metrics tell.

    Attributes:
        facts: What is on disk.
        trouble: What keeps the board from its fleet now, in words; empty where nothing does.
        sent, received: Bytes since the start.
        judged: Number of judgements since the start, by outcome.
        boards: Who is in the fleet, and when the server said so, s since the epoch; None before it did.
    """

    facts: BoxFacts
    trouble: str
    sent: int
    received: int
    judged: dict[str, int]
    boards: tuple[Boards, float] | None


class Box:
    """The files in one folder; any thread may call."""

    def __init__(
        self,
        folder: Path,
        root: Root,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
        free_bytes: Callable[[], int] = lambda: 1 << 62,
        own_release: Callable[[], bytes | None] = lambda: None,
        on_arrival: Callable[[], None] = lambda: None,
    ) -> None:
        """Read what is there.

        Args:
            folder: Folder in the state folder, created when something is written.
            root: The model that all boards began with.
            now: Wall clock, s.
            monotonic: Clock in seconds that is never set.
            free_bytes: The bytes that may be written without leaving the disk too full.
            own_release: Makes the root's release of this board's first model; None where that is none.
            on_arrival: Called when a release has arrived, or one is known that has to be judged.
        """
        self._folder = folder
        self._now = now
        self._monotonic = monotonic
        #: When the server was heard of by that clock, and whether it was since the start.
        self._heard_here = (monotonic(), False)
        self._releases = Releases(folder / _RELEASES, root, free_bytes=free_bytes, own=own_release)
        self.on_arrival = on_arrival
        self._lock = threading.Lock()
        self._troubles: dict[str, str] = {}
        self._sent = self._received = 0
        self._boards: tuple[Boards, float] | None = None
        self._looked_at = 0.0
        self._judged = {"taken": 0, "refused": 0, "scored": 0, "failed": 0}
        self._facts = self._read()
        self._tidy()

    def snapshot(self) -> Snapshot:
        """The present state."""
        with self._lock:
            return Snapshot(
                facts=self._facts,
                trouble="; ".join(self._troubles.values()),
                sent=self._sent,
                received=self._received,
                judged=dict(self._judged),
                boards=self._boards,
            )

    def trouble(self, who: str, text: str) -> None:
        """Note what keeps ``who`` from its work; an empty text when nothing does any more."""
        with self._lock:
            before = self._troubles.pop(who, "")
            if text:
                self._troubles[who] = text
        if text and text != before:
            log.warning("fleet trouble of=%s reason=%s", who, text)

    def offer(self, version: str, data: bytes, *, against: str = "") -> None:
        """Put an offer in the place of the one before; ``against`` is the release that it is counted from.

        Raises:
            OSError: The disk is full or fails; then the one before still stands.
        """
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_durably(self._folder / _OFFER, data)
            ref = OfferRef(id=hashlib.sha256(data).hexdigest(), size=len(data), against=against)
            self._keep(msgspec.structs.replace(self._facts, offer=ref, offered=version))

    def piece_of_offer(self, name: str, offset: int, most: int) -> bytes:
        """A piece of the offer.

        Raises:
            BoxError: There is none of this name, or not any more.
            OSError: The disk is full or fails.
        """
        with self._lock:
            offer = self._facts.offer
            if offer is None or offer.id != name:
                raise BoxError("this board offers something else by now")
            whole = self._whole_offer()
            if hashlib.sha256(whole).hexdigest() == name:
                data = whole[max(0, offset) :][:most]
                self._sent += len(data)
                return data
            # Asked for again and again, it would keep news and versions from this board as well.
            self._keep(msgspec.structs.replace(self._facts, offer=None, offered=""))
        self.on_arrival()
        raise BoxError("the file of the offer is damaged or gone: it is made anew")

    def _whole_offer(self) -> bytes:
        try:
            return (self._folder / _OFFER).read_bytes()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EIO):
                raise
            return b""

    def news(self, news: Synced) -> tuple[Want, ...]:
        """Take in the server's news; returns the files that are missing.

        Raises:
            OSError: The disk is full or fails.
        """
        with self._lock:
            # It has no number of a request that other news would not have.
            news = msgspec.structs.replace(news, id=0)
            before = self._facts.news
            now = self._now()
            given = self._facts.given
            if news.candidate and given and not news.voted and given.sha256 == news.candidate.sha256:
                self._keep(msgspec.structs.replace(self._facts, ballot=given, given=None))
            # Once an hour is enough for what only says that the server is there.
            if news != before or not 0 <= now - self._facts.heard_at < 3600.0:
                self._keep(msgspec.structs.replace(self._facts, news=news, heard_at=now))
            self._heard_at = now
            self._heard_here = (self._monotonic(), True)
            wants = self._missing(news)
        if not wants:
            self.on_arrival()
        return wants

    def piece_of_release(self, file: Release, offset: int, data: bytes) -> int:
        """Take in a piece of a release, or of a change that makes one; returns the bytes that are there.

        Raises:
            BoxError: Nobody asked for it, or the disk is too full.
            OSError: The disk is full or fails.
        """
        with self._lock:
            news = self._facts.news
            whole = news is not None and file in self._wanted(news)
            change = news is not None and any(
                (file.sha256, file.size) == (each.sha256, each.size) for each in news.changes
            )
            if news is None or not (whole or change):
                raise BoxError("this release is not wanted any more")
            before = self._releases.held(file)
            have = self._releases.take(file, offset, data, change=change)
            self._received += len(data) if have != before else 0
            arrived = have == file.size and before < have
            if arrived:
                self._missing(news)
        if arrived:
            self.on_arrival()
        return have

    def boards(self, boards: Boards) -> None:
        """Take in who is in the fleet."""
        with self._lock:
            self._boards = (boards, self._now())

    def looked_at(self) -> None:
        """Note that a person looks at who is in the fleet: it is asked for at the next turn."""
        with self._lock:
            self._looked_at = self._now()

    @property
    def asks_who(self) -> bool:
        """Whether the server is to be asked who is in the fleet: now and then, and while somebody looks."""
        with self._lock:
            news, now = self._facts.news, self._now()
            if news is None or news.speaks < 2:
                return False
            known = self._boards
            looks = 0 <= now - self._looked_at < _LOOKING_S
            return known is None or looks or not 0 <= now - known[1] <= _WHO_EVERY_S

    def judged(self, judged: Judged) -> None:
        """Note what this board made of a release.

        Raises:
            OSError: The disk is full or fails.
        """
        with self._lock:
            others = [
                j for j in self._facts.judged if (j.sha256, j.outcome) != (judged.sha256, judged.outcome)
            ]
            self._judged[judged.outcome] += 1
            self._keep(msgspec.structs.replace(self._facts, judged=(*others, judged)[-_REMEMBERED:]))

    def scored(self, ballot: Ballot | None, *, counted: bool = True) -> None:
        """Put counts out for the server; None once it has them, or has said that they do not count.

        Raises:
            OSError: The disk is full or fails.
        """
        with self._lock:
            before = self._facts.ballot
            if before != ballot:
                given = self._facts.given if before is None or not counted else before
                self._keep(msgspec.structs.replace(self._facts, ballot=ballot, given=given))

    @property
    def heard_at(self) -> float:
        """When the server was heard of last, s since the epoch; 0 if never."""
        return self._heard_at

    @property
    def quiet(self) -> bool:
        """Whether the server was heard of once, and not for three turns and an hour: the link may not run."""
        with self._lock:
            news = self._facts.news
            if news is None or not self._heard_at:
                return False
            since, heard = self._heard_here
            silent = self._monotonic() - since
            if not heard:  # it was another run of the daemon that heard: by the calendar
                silent = max(silent, self._now() - self._heard_at)
            return silent > max(_QUIET_S, 3 * news.next_s)

    def release(self, sha256: str) -> Path:
        """The file of a release, which may not be there."""
        return self._releases.path(sha256)

    def sound(self, sha256: str) -> bool:
        """Whether a release is here as it should be; a damaged one goes, and is fetched again."""
        with self._lock:
            return self._releases.sound(sha256)

    def content(self, sha256: str) -> bytes | None:
        """A release that is here, the root's for an empty name; None where it is not here."""
        with self._lock:
            return self._releases.whole(sha256 or self._releases.own_name())

    def _wanted(self, news: Synced) -> tuple[Release, ...]:
        """The published version, if it is not the root; to score a candidate, both."""
        if news.candidate is not None:
            return (news.published, news.candidate)
        return (news.published,) if news.published.number else ()

    def _missing(self, news: Synced) -> tuple[Want, ...]:
        missing = self._releases.missing(self._wanted(news), news.changes)
        self._tidy(bool(missing))
        return missing

    def _keep(self, facts: BoxFacts) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_durably(self._folder / _FACTS, msgspec.json.encode(facts))
        self._facts = facts

    def _read(self) -> BoxFacts:
        self._heard_at = 0.0
        try:
            facts = decode((self._folder / _FACTS).read_bytes(), BoxFacts)
        except FileNotFoundError:
            return BoxFacts()
        except (OSError, DocumentError) as error:
            # Nothing in it is not known elsewhere: the server tells the rest, and the offer is made anew.
            log.warning("fleet box begins anew folder=%s error=%s", self._folder, error)
            return BoxFacts()
        self._heard_at = facts.heard_at
        return facts

    def _tidy(self, missing: bool = True) -> None:
        """Remove what is neither published, nor scored now, nor what something is counted from."""
        news = self._facts.news
        kept = {each.sha256 for each in self._wanted(news)} if news else set()
        kept |= {j.sha256 for j in [j for j in self._facts.judged if j.outcome == "taken"][-_TAKEN_KEPT:]}
        for change in news.changes if news and missing else ():
            kept |= {change.base, change.release, change.sha256}
        self._releases.tidy(kept)


def offer_words(state: OfferState | None) -> str:
    """What became of the offer, for people."""
    if state is None:
        return "nothing offered yet"
    words = {
        "unknown": "on its way",
        "waiting": "waits for a version",
        "judging": f"in version {state.version}, which volunteers score",
        "used": f"used in version {state.version}" if state.version else "used in an earlier version",
        "declined": f"in version {state.version}, which was not published",
        "refused": "refused",
    }[state.state]
    return f"{words}: {state.reason}" if state.reason else words
