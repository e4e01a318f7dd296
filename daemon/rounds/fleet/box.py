"""A board's files for its fleet: the offer that goes out, the releases that came in, what is known of both.

Two threads use it: that of rounds fills the offer and reads releases, that of the fleet's socket hands out
and takes in. An offer stays until a newer one takes its place, whatever the server has said: one that was
restored from an old backup asks for it again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from dance_ondevice.daemon.wire.fleet_messages import OfferRef, OfferState, Release, Synced
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import is_leftover, write_durably
from dance_ondevice.fleet.root import Root
from dance_ondevice.policies.fleet.rules import Tally

__all__ = ["Ballot", "Box", "BoxError", "BoxFacts", "FleetPart", "Judged", "Snapshot", "Want", "offer_words"]

log = logging.getLogger(__name__)

_FACTS, _OFFER, _RELEASES = "box.json", "offer.safetensors", "releases"
#: Judgements of releases that are remembered.
_REMEMBERED = 32


class BoxError(Exception):
    """Error: a piece cannot be taken or handed out; the message says why."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What this board made of a release.

    Attributes:
        outcome: Whether it went live, was refused by this board's gate, or was scored for the fleet.
        reason: In words.
        gain: mIoU on this board's held-out frames over the model before.
    """

    sha256: str
    number: int
    outcome: Literal["taken", "refused", "scored", "failed"]
    reason: str = ""
    gain: float = 0.0


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
    """

    offer: OfferRef | None = None
    offered: str = ""
    news: Synced | None = None
    heard_at: float = 0.0
    judged: tuple[Judged, ...] = ()
    ballot: Ballot | None = None


@dataclass(frozen=True, kw_only=True)
class Want:
    """A release that the board lacks, and the bytes that it has of it."""

    release: Release
    have: int


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
    """

    facts: BoxFacts
    trouble: str
    sent: int
    received: int
    judged: dict[str, int]


class Box:
    """The files in one folder; any thread may call."""

    def __init__(
        self,
        folder: Path,
        *,
        now: Callable[[], float],
        free_bytes: Callable[[], int] = lambda: 1 << 62,
        on_arrival: Callable[[], None] = lambda: None,
    ) -> None:
        """Read what is there.

        Args:
            folder: Folder in the state folder, created when something is written.
            now: Wall clock, s.
            free_bytes: The bytes that may be written without leaving the disk too full.
            on_arrival: Called when a release has arrived, or one is known that has to be judged.
        """
        self._folder = folder
        self._now = now
        self._free_bytes = free_bytes
        self.on_arrival = on_arrival
        self._lock = threading.Lock()
        self._troubles: dict[str, str] = {}
        self._sent = self._received = 0
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
            )

    def trouble(self, who: str, text: str) -> None:
        """Note what keeps ``who`` from its work; an empty text when nothing does any more."""
        with self._lock:
            before = self._troubles.pop(who, "")
            if text:
                self._troubles[who] = text
        if text and text != before:
            log.warning("fleet trouble of=%s reason=%s", who, text)

    def offer(self, version: str, data: bytes) -> None:
        """Put an offer in the place of the one before.

        Raises:
            OSError: The disk is full or fails; then the one before still stands.
        """
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_durably(self._folder / _OFFER, data)
            ref = OfferRef(id=hashlib.sha256(data).hexdigest(), size=len(data))
            self._keep(msgspec.structs.replace(self._facts, offer=ref, offered=version))

    def piece_of_offer(self, name: str, offset: int, most: int) -> bytes:
        """A piece of the offer.

        Raises:
            BoxError: There is none of this name, or not any more.
        """
        with self._lock:
            offer = self._facts.offer
            if offer is None or offer.id != name:
                raise BoxError("this board offers something else by now")
            try:
                with (self._folder / _OFFER).open("rb") as file:
                    file.seek(max(0, offset))
                    data = file.read(most)
            except OSError as error:
                raise BoxError(f"the offer cannot be read: {error.strerror or error}") from error
            self._sent += len(data)
            return data

    def news(self, news: Synced) -> tuple[Want, ...]:
        """Take in the server's news; returns the releases that are missing.

        Raises:
            OSError: The disk is full or fails.
        """
        with self._lock:
            # It has no number of a request that other news would not have.
            news = msgspec.structs.replace(news, id=0)
            before = self._facts.news
            now = self._now()
            # Once an hour is enough for what only says that the server is there.
            if news != before or not 0 <= now - self._facts.heard_at < 3600.0:
                self._keep(msgspec.structs.replace(self._facts, news=news, heard_at=now))
            self._heard_at = now
            self._tidy()
            wants = tuple(
                Want(release=each, have=self._size(self._part(each.sha256)))
                for each in self._wanted(news)
                if not self.release(each.sha256).exists()
            )
        if not wants:
            self.on_arrival()
        return wants

    def piece_of_release(self, release: Release, offset: int, data: bytes) -> int:
        """Take in a piece of a release; returns the bytes that are there, all of them once it is whole.

        Raises:
            BoxError: Nobody asked for it, or the disk is too full.
            OSError: The disk is full or fails.
        """
        arrived = False
        with self._lock:
            news = self._facts.news
            if news is None or release not in self._wanted(news):
                raise BoxError("this release is not wanted any more")
            part, whole = self._part(release.sha256), self.release(release.sha256)
            if whole.exists():
                return release.size
            have = self._size(part)
            if offset != have or have + len(data) > release.size or not data:
                return have
            if self._free_bytes() < release.size - have:
                raise BoxError("the disk is too full for it: storage.min_free_bytes stays free")
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("ab") as file:
                try:
                    file.write(data)
                    file.flush()
                except OSError:
                    os.truncate(part, have)
                    raise
            self._received += len(data)
            have += len(data)
            if have == release.size:
                content = part.read_bytes()
                part.unlink()
                if hashlib.sha256(content).hexdigest() != release.sha256:
                    return 0  # damaged on the way: once more
                write_durably(whole, content)
                arrived = True
        if arrived:
            self.on_arrival()
        return have

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

    def scored(self, ballot: Ballot | None) -> None:
        """Put counts out for the server; None once it has them.

        Raises:
            OSError: The disk is full or fails.
        """
        with self._lock:
            if self._facts.ballot != ballot:
                self._keep(msgspec.structs.replace(self._facts, ballot=ballot))

    @property
    def heard_at(self) -> float:
        """When the server was heard of last, s since the epoch; 0 if never."""
        return self._heard_at

    def release(self, sha256: str) -> Path:
        """The file of a release, which may not be there."""
        return self._folder / _RELEASES / f"{sha256}.safetensors"

    def _wanted(self, news: Synced) -> tuple[Release, ...]:
        """The published version, if it is not the root; to score a candidate, both."""
        if news.candidate is not None:
            return (news.published, news.candidate)
        return (news.published,) if news.published.number else ()

    def _part(self, sha256: str) -> Path:
        return self._folder / _RELEASES / f"{sha256}.part"

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

    def _tidy(self) -> None:
        """Remove releases that are neither published nor scored now, and what a crash has left."""
        folder = self._folder / _RELEASES
        kept = {each.sha256 for each in self._wanted(self._facts.news)} if self._facts.news else set()
        for path in folder.iterdir() if folder.is_dir() else ():
            if is_leftover(path.name) or path.name.partition(".")[0] not in kept:
                path.unlink(missing_ok=True)

    def _size(self, path: Path) -> int:
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0


def offer_words(state: OfferState | None) -> str:
    """What became of the offer, for people."""
    if state is None:
        return "nothing offered yet"
    words = {
        "unknown": "on its way",
        "waiting": "waits for a version",
        "judging": f"in version {state.version}, which volunteers score",
        "used": f"used in version {state.version}",
        "declined": f"in version {state.version}, which was not published",
        "refused": "refused",
    }[state.state]
    return f"{words}: {state.reason}" if state.reason else words
