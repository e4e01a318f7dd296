"""What the server answers each board, and when it makes and publishes a version, without sockets.

One thread calls it. It gives no orders: a board asks, hands in and fetches what it likes, and whether it
takes a version is its own gate's matter.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from dance_ondevice.daemon.fleet.doubles import Doubles
from dance_ondevice.daemon.fleet.facts import BoardFacts, UsedOffer, VersionFacts, VersionStatus, VoteFacts
from dance_ondevice.daemon.fleet.making import Base, Made, Releases, Source, Work, master_bytes
from dance_ondevice.daemon.fleet.news import changes_told, told
from dance_ondevice.daemon.fleet.presence import Presence
from dance_ondevice.daemon.fleet.roster import Tallies, roster
from dance_ondevice.daemon.fleet.shelf import MASTER, RELEASE, Shelf, tolerated, used_by
from dance_ondevice.daemon.wire import fleet_messages as messages
from dance_ondevice.fleet.changes import file_limit
from dance_ondevice.fleet.layers import Array
from dance_ondevice.fleet.offers import About, OfferError, UnknownRelease, decode_offer
from dance_ondevice.fleet.releases import encode_release, release_name
from dance_ondevice.fleet.root import Root
from dance_ondevice.policies.fleet.rules import Decision, FleetRules, Vote, Waiting, decide, due, staleness

__all__ = ["Desk", "open_desk"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"[0-9a-f]{64}")
#: How often it is written down that a board was heard of.
_SEEN_EVERY_S = 3600.0
#: Seconds after which a board tries again what the server's disk could not take.
_DISK_RETRY_S = 600.0
#: Seconds after which a board whose kit another one uses, too, asks again.
_DOUBLE_RETRY_S = 600.0
#: Volunteers get so long in the life of this process, whatever the calendar says: without a battery for its
#: clock a server starts in the past, and is set forward by days a moment later.
_LEAST_VOTE_S = 3600.0
#: With ever more boards each asks less often, so that all together ask no more than so often in a second.
_MOST_SYNCS = 10.0

_STATES: Mapping[VersionStatus, messages.OfferStateName] = {
    "candidate": "judging",
    "published": "used",
    "declined": "declined",
}


class Desk:
    """The server's answers and decisions."""

    def __init__(
        self,
        shelf: Shelf,
        root: Root,
        rules: FleetRules,
        *,
        sync_seconds: float,
        now: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
        admitted: Callable[[], Mapping[str, str] | None] = lambda: None,
    ) -> None:
        """``now`` is the wall clock in seconds; ``shelf`` is open; ``admitted`` as for ``Presence``."""
        self._shelf = shelf
        self._root = root
        self._rules = rules
        self._sync_seconds = sync_seconds
        self._now = now
        self._monotonic = monotonic
        self._doubles = Doubles(monotonic, turn_s=sync_seconds)
        #: The candidate, and since when this process knows it.
        self._asking = (-1, 0.0)
        seen_at = {name: facts.seen_at for name, facts in shelf.boards.items()}
        self.presence = Presence(seen_at, now, monotonic, admitted)
        #: Since when this process knows each offer that waits, by the monotonic clock.
        self._waiting: dict[str, float] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._releases = Releases(shelf, root)
        self.tallies = Tallies()

    def begin(self, tensors: dict[str, Array]) -> None:
        """Make the root the first version, unless that was done before; ``tensors`` are its values."""
        self._shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if 0 in self._shelf.versions:
            return
        release = encode_release(self._root, tensors)
        facts = VersionFacts(
            number=0,
            sha256=release_name(release),
            size=len(release),
            made_at=self._now(),
            status="published",
            reason="the root",
        )
        self._shelf.add(facts, {MASTER: master_bytes(tensors), RELEASE: release})

    @property
    def most_bytes(self) -> int:
        """The most bytes of an offer."""
        return file_limit(self._shapes)

    def answer(self, board: str, ask: messages.Ask, data: bytes) -> tuple[messages.Answer, bytes]:
        """Answer a board's request; returns the answer and the bytes that follow it."""
        try:
            match ask:
                case messages.Sync():
                    return self._sync(board, ask), b""
                case messages.Put():
                    return self._put(board, ask, data), b""
                case messages.Get():
                    return self._get(board, ask)
                case messages.Score():
                    return self._score(board, ask), b""
                case messages.Who():
                    seen, waiting = self.presence.heard_at(), self.waiting()
                    found = roster(self._shelf, seen, waiting, self.tallies, number=ask.id, now=self._now())
                    return found, b""
        except OSError as error:
            self.tallies.refused["disk"] += 1
            log.warning("cannot serve board=%s error=%s", board, error)
            reason = f"the server's disk: {error.strerror or error}"
            return messages.Refusal(id=ask.id, reason=reason, retry_s=_DISK_RETRY_S), b""

    def _sync(self, board: str, ask: messages.Sync) -> messages.Answer:
        if ask.root != self._root.sha256:
            return self._refused(
                ask,
                f"this board began with the model {ask.root[:12]}, the fleet with {self._root.sha256[:12]}: "
                "it needs a fleet of its own, or a start from the fleet's model",
            )
        if self._doubles.heard(board, ask.session):
            self.tallies.refused["double"] += 1
            log.warning("two boards use one kit board=%s", board)
            reason = (
                f"two boards use the kit of {board}, as after copying an SD card: stop the link of one, "
                "and give it a kit and a state folder of its own (`fleet init`)"
            )
            return messages.Refusal(id=ask.id, reason=reason, retry_s=_DOUBLE_RETRY_S)
        has = ask.lineage[0] if ask.lineage else ""
        self._heard(board, has=has, refuses=ask.refused)
        published, candidate = self._shelf.published, self._shelf.candidate
        return messages.Synced(
            id=ask.id,
            published=told(published),
            candidate=told(candidate) if candidate is not None else None,
            voted=candidate is not None and self._has_voted(board, candidate),
            offer=self._state(board, ask.offer) if ask.offer else None,
            set_back=bool(has) and self._shelf.number_of(has) is None,
            next_s=max(self._sync_seconds, self.presence.lately() / _MOST_SYNCS),
            speaks=messages.SPEAKS,
            changes=changes_told(self._shelf),
        )

    def _state(self, board: str, ref: messages.OfferRef) -> messages.OfferState:
        facts, offer = self._shelf.boards.get(board, BoardFacts()), ref.id
        version = self._shelf.version_of(offer)
        if version is not None:
            with tolerated("an offer is adopted another time"):
                self._shelf.adopt(board, offer)
            return messages.OfferState(
                id=offer,
                state=_STATES[version.status],
                version=version.number,
                reason=version.reason,
            )
        if facts.used is not None and facts.used.id == offer:
            return messages.OfferState(id=offer, state="used")
        if facts.offer == offer and self.presence.admits(board, facts.key):
            # Versions may have been published since it came.
            refused = facts.refused or self._too_old(facts.base)
            return messages.OfferState(id=offer, state="refused" if refused else "waiting", reason=refused)
        if ref.against and self._shelf.number_of(ref.against) is None:
            return messages.OfferState(id=offer, state="unknown", whole=True)
        return messages.OfferState(id=offer, state="unknown", have=self._shelf.arrived(board, offer))

    def _put(self, board: str, ask: messages.Put, data: bytes) -> messages.Answer:
        offer = ask.offer
        if not _NAME.fullmatch(offer.id) or not 0 < offer.size <= self.most_bytes:
            return self._refused(ask, f"an offer has at most {self.most_bytes} bytes and its SHA-256 as name")
        state = self._state(board, offer)
        if state.state != "unknown" or state.whole:
            return messages.Stored(id=ask.id, offer=state)  # the receipt was lost
        if state.have >= offer.size:  # all of it came, and could not be kept then
            return messages.Stored(id=ask.id, offer=self._admitted(board, offer))
        fits = 0 < len(data) <= messages.PIECE and ask.offset + len(data) <= offer.size
        if ask.offset != state.have or not fits:
            # It tells where to go on.
            return messages.Stored(id=ask.id, offer=state)
        self.tallies.exchanged(board, "in", len(data))
        have = self._shelf.append(board, offer.id, data)
        if have < offer.size:
            return messages.Stored(id=ask.id, offer=msgspec.structs.replace(state, have=have))
        return messages.Stored(id=ask.id, offer=self._admitted(board, offer))

    def _admitted(self, board: str, offer: messages.OfferRef) -> messages.OfferState:
        """Judge an offer that has arrived, and keep it or why not."""
        data = self._shelf.whole(board, offer.id)
        if data is None:
            return messages.OfferState(id=offer.id, state="unknown")  # damaged on the way: once more
        before = self._shelf.boards.get(board, BoardFacts())
        key = self.presence.key_of(board)
        facts = msgspec.structs.replace(before, offer=offer.id, arrived_at=self._now(), refused="", key=key)
        try:
            about = decode_offer(data, self._root, self._shapes, self._releases.values).about
            facts = msgspec.structs.replace(facts, base=self._base(about), samples=about.samples)
        except UnknownRelease:
            self._shelf.forget(board, offer.id)
            return messages.OfferState(id=offer.id, state="unknown", whole=True)
        except OfferError as error:
            facts = msgspec.structs.replace(facts, refused=str(error))
        self._shelf.admit(board, None if facts.refused else data, facts)
        self.tallies.offers["refused" if facts.refused else "admitted"] += 1
        log.info(
            "offer board=%s id=%s base=%d samples=%d refused=%r",
            board, offer.id[:12], facts.base, facts.samples, facts.refused,
        )  # fmt: skip
        return self._state(board, offer)

    def _base(self, about: About) -> int:
        """The newest published version that an offer goes back to and that is known here.

        Raises:
            OfferError: It is too old, or its changes are counted from another one.
        """
        known = [n for n in map(self._shelf.number_of, about.lineage) if n is not None]
        base = max(known, default=0)
        if about.against and self._shelf.number_of(about.against) != base:
            raise OfferError(f"it is counted from another version than {base}, which it goes back to")
        if too_old := self._too_old(base):
            set_back = bool(about.lineage) and self._shelf.number_of(about.lineage[0]) is None
            why = " (the server was set back, and does not know the version that the board took)"
            raise OfferError(too_old + (why if set_back else ""))
        return base

    def _too_old(self, base: int) -> str:
        """Why an offer that goes back to this version does not count; empty where it does."""
        if staleness(self._rules, self._shelf.behind(base)) is not None:
            return ""
        newest = self._shelf.published.number
        return f"it goes back to version {base}, the newest is {newest}: take a newer one first"

    def _get(self, board: str, ask: messages.Get) -> tuple[messages.Answer, bytes]:
        path = self._shelf.file(ask.sha256) if _NAME.fullmatch(ask.sha256) else None
        if path is None:
            return self._refused(ask, "there is no such version, or not any more"), b""
        with path.open("rb") as file:
            file.seek(max(0, ask.offset))
            data = file.read(messages.PIECE)
        self.tallies.exchanged(board, "out", len(data))
        return messages.Piece(id=ask.id, size=path.stat().st_size), data

    def _score(self, board: str, ask: messages.Score) -> messages.Answer:
        candidate = self._shelf.candidate
        if candidate is None or candidate.sha256 != ask.sha256:
            return messages.Scored(id=ask.id, counted=False, reason="it is decided already")
        if self._has_voted(board, candidate):
            return messages.Scored(id=ask.id, counted=True)
        if ask.against != self._shelf.published.sha256:
            return messages.Scored(id=ask.id, counted=False, reason="it was compared with another version")
        fault = ask.candidate.fault(len(self._root.classes)) or ask.published.fault(len(self._root.classes))
        if not fault and ask.candidate.truth != ask.published.truth:
            fault = "the two were scored on other pixels"
        if fault:
            return self._refused(ask, fault)
        key = self.presence.key_of(board)
        vote = VoteFacts(candidate=ask.candidate, published=ask.published, key=key)
        votes = {**candidate.votes, board: vote}
        self._shelf.change(msgspec.structs.replace(candidate, votes=votes))
        return messages.Scored(id=ask.id, counted=True)

    def _has_voted(self, board: str, candidate: VersionFacts) -> bool:
        """Whether a board's counts are here and are still its own."""
        vote = candidate.votes.get(board)
        return vote is not None and self.presence.admits(board, vote.key)

    def decide(self) -> Decision | None:
        """Publish or decline the candidate if the votes are there; None where there is none.

        Raises:
            OSError: The disk is full or fails; the next call tries again.
        """
        candidate = self._shelf.candidate
        if candidate is None:
            return None
        revoked = [each.board for each in candidate.offers if not self.presence.admits(each.board, each.key)]
        if revoked:
            # It names no offer any more: those of the others wait for the next.
            reason = f"it has what came with a key that was removed since: {', '.join(revoked)}"
            found = Decision(outcome="declined", reason=reason)
            return self._decided(msgspec.structs.replace(candidate, offers=()), found)
        votes = [
            Vote(board=board, candidate=vote.candidate, published=vote.published)
            for board, vote in candidate.votes.items()
            if self.presence.admits(board, vote.key)
        ]
        waited_s = self._waited(candidate)
        found = decide(self._rules, votes, volunteers=self.presence.volunteers(), waited_s=waited_s)
        return found if found.outcome == "wait" else self._decided(candidate, found)

    def _decided(self, version: VersionFacts, found: Decision) -> Decision:
        assert found.outcome != "wait"
        changed = msgspec.structs.replace(
            version, status=found.outcome, reason=found.reason, miou=found.candidate
        )
        self._shelf.change(changed)
        self.tallies.versions[found.outcome] += 1
        log.info("version %s number=%d reason=%s", found.outcome, version.number, found.reason)
        self._shelf.keep_newest(self._rules.oldest_base + 2)
        return found

    def _waited(self, candidate: VersionFacts) -> float:
        """How long volunteers had, s: by the calendar, which a restart does not begin anew."""
        if self._asking[0] != candidate.number:
            self._asking = (candidate.number, self._monotonic())
        here = self._monotonic() - self._asking[1]
        return max(here, self._now() - candidate.made_at) if here >= _LEAST_VOTE_S else here

    def waiting(self) -> dict[str, BoardFacts]:
        """The boards of the fleet whose offer waits for a version."""
        found = {n: f for n, f in self._shelf.waiting().items() if self.presence.admits(n, f.key)}
        old = {base for base in {facts.base for facts in found.values()} if self._too_old(base)}
        return {name: facts for name, facts in found.items() if facts.base not in old}

    def work(self) -> Work | None:
        """The version that is to be made now; None while none is due or one is being judged."""
        shelf = self._shelf
        if shelf.candidate is not None:
            return None
        waiting = self.waiting()
        now, here = self._now(), self._monotonic()
        # By the calendar too, which a restart does not begin anew, but which may have been ahead.
        self._waiting = {f.offer: self._waiting.get(f.offer, here) for f in waiting.values()}
        waits = [
            Waiting(name, max(here - self._waiting[facts.offer], now - facts.arrived_at))
            for name, facts in waiting.items()
        ]
        if not due(self._rules, waits, self.presence.lately()):
            return None
        if len(waiting) < 2:
            return None
        sources = tuple(self._source(name, facts) for name, facts in sorted(waiting.items()))
        files = (path for each in sources for path in (each.path, each.counted_from))
        shelf.averaged = frozenset(path for path in files if path is not None)
        return Work(
            number=max(shelf.versions) + 1,
            now=shelf.master(shelf.published.number),
            published=self._release(shelf.published.number),
            bases={s.used.base: self._release(s.used.base) for s in sources},
            sources=sources,
            out=shelf.making,
        )

    def _release(self, number: int) -> Base:
        return Base(name=self._shelf.versions[number].sha256, path=self._shelf.release(number))

    def _source(self, board: str, facts: BoardFacts) -> Source:
        last = used_by(facts, facts.base)
        path = self._shelf.offer(board, last.id) if last else None
        return Source(
            used=UsedOffer(board=board, id=facts.offer, base=facts.base, key=facts.key),
            path=self._shelf.offer(board, facts.offer),
            counted_from=path if path is not None and path.exists() else None,
            behind=self._shelf.behind(facts.base),
        )

    def drop(self, path: Path) -> None:
        """See ``Shelf.drop``."""
        self._shelf.drop(path)

    def made(self, made: Made) -> None:
        """Take in a version that was made: from now on its offers are used.

        One with the offer of a board whose key was removed or replaced meanwhile is let go of; the others
        wait on.

        Raises:
            OSError: The disk is full or fails; then its offers wait on.
        """
        self._shelf.averaged = frozenset()
        used = [source.used for source in made.work.sources]
        revoked = [each.board for each in used if not self.presence.admits(each.board, each.key)]
        if revoked:
            log.info("version let go of number=%d revoked=%s", made.work.number, " ".join(revoked))
            return
        facts = VersionFacts(
            number=made.work.number,
            sha256=made.sha256,
            size=made.size,
            made_at=self._now(),
            status="candidate",
            offers=tuple(used),
            shortened=made.shortened,
            change=made.change,
        )
        self._shelf.add(facts)
        self._asking = (facts.number, self._monotonic())
        log.info(
            "version made number=%d offers=%d shortened=%s",
            facts.number, len(facts.offers), facts.shortened,
        )  # fmt: skip

    def _heard(self, board: str, *, has: str, refuses: str) -> None:
        now, facts = self._now(), self._shelf.boards.get(board, BoardFacts())
        self.presence.heard(board)
        stale = not 0 <= now - facts.seen_at < _SEEN_EVERY_S
        if stale or (facts.has, facts.refuses) != (has, refuses):
            changed = msgspec.structs.replace(facts, seen_at=now, has=has, refuses=refuses)
            with tolerated("what was heard is written down another time"):
                self._shelf.note(board, changed)

    def _refused(self, ask: messages.Ask, reason: str) -> messages.Refusal:
        self.tallies.refused["request"] += 1
        return messages.Refusal(id=ask.id, reason=reason)


def open_desk(
    folder: Path,
    root: Root,
    tensors: dict[str, Array],
    rules: FleetRules,
    *,
    sync_seconds: float,
    now: Callable[[], float],
    monotonic: Callable[[], float] = time.monotonic,
    admitted: Callable[[], Mapping[str, str] | None] = lambda: None,
) -> tuple[Shelf, Desk]:
    """Open a server's state folder; ``admitted`` returns the boards' keys by name, None for all.

    Raises:
        ShelfError: A file is damaged.
        OSError: The folder cannot be read or written.
    """
    shelf = Shelf(folder)
    shelf.open()
    desk = Desk(
        shelf, root, rules, sync_seconds=sync_seconds, now=now, monotonic=monotonic, admitted=admitted
    )
    desk.begin(tensors)
    return shelf, desk
