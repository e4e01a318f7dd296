"""The server's files: the boards' offers and the fleet's versions. One thread owns them.

A version appears by one rename of its folder, which names the offers that it was made of: an offer is waiting
until then and used from then on, at whatever moment the server is killed. An offer is flushed to the disk
before its receipt; until the receipt the board keeps it. What else lies here is left from a crash and goes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from dance_ondevice.daemon.fleet.facts import BoardFacts, UsedOffer, VersionFacts
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import is_leftover, sync_directory, temporary_beside, write_durably

__all__ = ["CHANGE", "MASTER", "RELEASE", "Shelf", "ShelfError", "tolerated", "used_by"]

log = logging.getLogger(__name__)

MASTER, RELEASE, CHANGE = "master.safetensors", "release.safetensors", "release.change"
_FACTS, _OFFER, _PART = "facts.json", ".offer", ".part"
#: Of versions that were declined, so many stay on record, without their tensors.
_DECLINED_KEPT = 20
_STAY = "files that are not needed any more stay for now"


class ShelfError(Exception):
    """The server's state cannot be used; the message says what to do."""


class Shelf:
    """Boards and versions, in memory and on disk alike."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read before ``open``."""
        self.folder = folder
        self.boards: dict[str, BoardFacts] = {}
        self.versions: dict[int, VersionFacts] = {}
        #: The version that each offer was used in: under another name it is the same offer still.
        self._used: dict[str, int] = {}
        #: The offer of each board that is in the candidate.
        self._judged: dict[str, str] = {}
        #: Files of offers that a version is being made of now: they stay, also where newer ones arrive.
        self.averaged: frozenset[Path] = frozenset()

    @property
    def published(self) -> VersionFacts:
        """The newest published version; the root at first."""
        return max(
            (v for v in list(self.versions.values()) if v.status == "published"), key=lambda v: v.number
        )

    @property
    def candidate(self) -> VersionFacts | None:
        """The version that volunteers score."""
        return next((v for v in self.versions.values() if v.status == "candidate"), None)

    @property
    def making(self) -> Path:
        """The folder in which a version is made."""
        return self.folder / "versions" / ".making"

    def open(self) -> None:
        """Read what is there and remove what a crash has left.

        Raises:
            ShelfError: A file is damaged.
            OSError: The folder cannot be read or written.
        """
        for name in ("versions", "boards"):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in (self.folder / "versions").iterdir():
            # An earlier release of the program called what it removed by one name.
            if left.name in (self.making.name, ".going") or is_leftover(left.name):
                shutil.rmtree(left, ignore_errors=True)
        for folder in _folders(self.folder / "versions"):
            _sweep(folder)
            facts = _read(folder / _FACTS)
            self.versions[facts.number] = facts
        for folder in _folders(self.folder / "boards"):
            _sweep(folder)
            self.boards[folder.name] = _of_board(folder / _FACTS)
        versions = sorted(self.versions.values(), key=lambda v: v.number)
        self._used = {used.id: version.number for version in versions for used in version.offers}
        self._let_go_of_the_unknown()
        for version in versions:
            self._count_used(version)
        self._tidy()

    def behind(self, base: int) -> int:
        """How many versions were published since this one."""
        return sum(v.status == "published" and v.number > base for v in self.versions.values())

    def number_of(self, sha256: str) -> int | None:
        """The number of the published version with a release of this name; None where it is not known."""
        return next(
            (v.number for v in self.versions.values() if v.sha256 == sha256 and v.status == "published"), None
        )

    def version_of(self, offer: str) -> VersionFacts | None:
        """The version that an offer was used in, whoever handed it in."""
        return self.versions.get(self._used.get(offer, -1))

    def adopt(self, board: str, offer: str) -> None:
        """Take an offer that was used under another name for this board's: its next one is counted from it.

        A board that got another kit, or the copy of its card, goes on from a model that the fleet has.

        Raises:
            OSError: The disk is full or fails.
        """
        version, facts = self.version_of(offer), self.boards.get(board, BoardFacts())
        if version is None or version.status != "published" or (facts.used and facts.used.id == offer):
            return
        those = {used.board: used for used in version.offers if used.id == offer}
        files = {name: self.offer(name, offer) for name in those}
        before = next((used for name, used in those.items() if files[name].exists()), None)
        if before is None or board in those:
            return
        used = replace(before, board=board)
        facts = replace(facts, offer=offer, refused="", base=before.base, used=used, used_in=version.number)
        self.admit(board, files[before.board].read_bytes(), facts)

    def file(self, sha256: str) -> Path | None:
        """The file of a release or change; None where there is none of this name, or not any more."""
        for version in self.versions.values():
            if version.status == "declined":
                continue
            change = version.change.sha256 if version.change else ""
            if sha256 in (version.sha256, change):
                path = self._version(version.number) / (RELEASE if sha256 == version.sha256 else CHANGE)
                return path if path.exists() else None
        return None

    def release(self, number: int) -> Path:
        """The file of a version's release."""
        return self._version(number) / RELEASE

    def master(self, number: int) -> Path:
        """The file with a version's values in 32 bits."""
        return self._version(number) / MASTER

    def offer(self, board: str, offer: str) -> Path:
        """The file of a board's offer."""
        return self.folder / "boards" / board / f"{offer}{_OFFER}"

    def waiting(self) -> dict[str, BoardFacts]:
        """The boards whose offer waits for a version."""
        return {name: facts for name, facts in list(self.boards.items()) if self._waits(facts)}

    def _waits(self, facts: BoardFacts) -> bool:
        used = facts.offer in self._used or (facts.used is not None and facts.used.id == facts.offer)
        return bool(facts.offer) and not facts.refused and not used

    def arrived(self, board: str, offer: str) -> int:
        """The bytes of an offer that have arrived."""
        try:
            return self._part(board, offer).stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, board: str, offer: str, data: bytes) -> int:
        """Add a piece to an offer that is arriving; parts of the board's earlier offers go.

        Raises:
            OSError: The disk is full or fails; what had arrived is still there.
        """
        path = self._part(board, offer)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        for other in path.parent.glob(f"*{_PART}"):
            if other != path:
                other.unlink()
        before = self.arrived(board, offer)
        try:
            with path.open("ab") as file:
                file.write(data)
        except OSError:
            # Without an inode for it there is no such file, and the error to be told is the first.
            with contextlib.suppress(OSError):
                os.truncate(path, before)
            raise
        return before + len(data)

    def whole(self, board: str, offer: str) -> bytes | None:
        """The bytes of an offer that has arrived; None if they are not those of its name, and gone."""
        path = self._part(board, offer)
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == offer:
            return data
        path.unlink()
        return None

    def forget(self, board: str, offer: str) -> None:
        """Remove what has arrived of an offer."""
        self._part(board, offer).unlink(missing_ok=True)

    def admit(self, board: str, data: bytes | None, facts: BoardFacts) -> None:
        """Keep an offer, and what is known of its board; durable when it returns.

        Args:
            board: The board.
            data: The offer; None for one that is refused, of which only the reason is kept.
            facts: Of the board from now on.

        Raises:
            OSError: The disk is full or fails; then nothing has changed.
        """
        if data is not None:
            path = self.offer(board, facts.offer)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_durably(path, data)
        self.note(board, facts)
        with tolerated(_STAY):
            self._part(board, facts.offer).unlink(missing_ok=True)
            self._tidy_board(board)

    def drop(self, path: Path) -> None:
        """Let go of the damaged file of an offer; one that waits is then asked for again.

        Raises:
            OSError: The disk is full or fails.
        """
        facts = self.boards.get(path.parent.name)
        if facts is not None and facts.offer == path.stem:
            self.note(path.parent.name, replace(facts, offer=""))
        path.unlink(missing_ok=True)

    def note(self, board: str, facts: BoardFacts) -> None:
        """Keep what is known of a board.

        Raises:
            OSError: The disk is full or fails; then nothing has changed.
        """
        folder = self.folder / "boards" / board
        if not folder.exists():
            folder.mkdir(mode=0o700)
            sync_directory(folder.parent)
        write_durably(folder / _FACTS, msgspec.json.encode(facts))
        self.boards[board] = facts

    def add(self, facts: VersionFacts, files: Mapping[str, bytes] | None = None) -> None:
        """Make a version appear, of files that were written to ``making`` or are given.

        Raises:
            OSError: The disk is full or fails; then there is no such version.
        """
        self.making.mkdir(mode=0o700, exist_ok=True)
        for name, data in (files or {}).items():
            write_durably(self.making / name, data)
        write_durably(self.making / _FACTS, msgspec.json.encode(facts))
        self.making.rename(self._version(facts.number))
        sync_directory(self.folder / "versions")
        self.versions[facts.number] = facts
        self._count_used(facts)

    def change(self, facts: VersionFacts) -> None:
        """Keep a version's votes or its status; offers that it names no more wait again.

        Raises:
            OSError: The disk is full or fails; then nothing has changed.
        """
        write_durably(self._version(facts.number) / _FACTS, msgspec.json.encode(facts))
        self.versions[facts.number] = facts
        if facts.status != "candidate":
            self._used = {key: n for key, n in self._used.items() if n != facts.number}
            self._count_used(facts)
            with tolerated(_STAY):
                self._tidy()

    def keep_newest(self, published: int) -> None:
        """Remove all but so many published versions.

        The boards' last used offers are written down first, since they are known from the versions.
        """
        numbers = sorted(v.number for v in self.versions.values() if v.status == "published")
        with tolerated(_STAY):
            for number in numbers[1:-published] if len(numbers) > published else ():
                for used in self.versions[number].offers:
                    if used.board in self.boards:
                        self.note(used.board, self.boards[used.board])
                self._remove(number)
        self._used = {key: n for key, n in self._used.items() if n in self.versions}

    def bytes_used(self) -> int:
        """What all files take."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def _count_used(self, version: VersionFacts) -> None:
        candidate = self.candidate
        self._judged = {used.board: used.id for used in candidate.offers} if candidate else {}
        for used in version.offers:
            self._used[used.id] = version.number
            facts = self.boards.get(used.board)
            if version.status != "published" or facts is None:
                continue
            # One that was adopted is written down, and came after what this name handed in before.
            if facts.used is None or self._used.get(facts.used.id, -1) < version.number:
                self.boards[used.board] = replace(facts, used=used, used_in=version.number)

    def _let_go_of_the_unknown(self) -> None:
        """Forget what boards' offers say of versions that are not here, and ask for those offers again.

        A version's folder was removed since it was damaged, or a copy was made while a version appeared: its
        number is given anew, and an offer that goes back to it would be counted from another one.
        """
        newest = max(self.versions, default=0)
        for board, facts in list(self.boards.items()):
            kept = facts
            if facts.used_in > newest:
                kept = replace(kept, used=None, used_in=0)
            if self._waits(kept) and kept.base not in (0, *self.versions):
                kept = replace(kept, offer="", base=0)
            if kept is not facts:
                log.warning("an offer goes back to a version that is gone board=%s", board)
                self.note(board, kept)

    def _tidy(self) -> None:
        declined = sorted(v.number for v in self.versions.values() if v.status == "declined")
        for number in declined:
            for name in (MASTER, RELEASE, CHANGE):
                (self._version(number) / name).unlink(missing_ok=True)
        for number in declined[:-_DECLINED_KEPT]:
            self._remove(number)
        for board in self.boards:
            self._tidy_board(board)

    def _remove(self, number: int) -> None:
        """Remove a version; no crash leaves half of its folder."""
        going = temporary_beside(self._version(number))
        self._version(number).rename(going)
        del self.versions[number]
        shutil.rmtree(going, ignore_errors=True)

    def _tidy_board(self, board: str) -> None:
        """Remove offers that neither wait, nor are scored, nor are what the next change is counted from."""
        facts = self.boards[board]
        kept = {facts.used.id} if facts.used else set()
        if self._waits(facts):
            kept.add(facts.offer)
        kept.add(self._judged.get(board, ""))
        folder = self.folder / "boards" / board
        for path in folder.glob(f"*{_OFFER}"):
            if path.name.removesuffix(_OFFER) not in kept and path not in self.averaged:
                path.unlink()

    def _version(self, number: int) -> Path:
        return self.folder / "versions" / f"{number:06d}"

    def _part(self, board: str, offer: str) -> Path:
        return self.folder / "boards" / board / f"{offer}{_PART}"


def used_by(facts: BoardFacts, base: int) -> UsedOffer | None:
    """The offer that a board's next change is counted from, if it goes on from the same version."""
    return facts.used if facts.used is not None and facts.used.base == base else None


def _folders(folder: Path) -> list[Path]:
    """The folders in one, but hidden ones: programs that copy and show folders leave files of their own."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _sweep(folder: Path) -> None:
    for path in folder.iterdir():
        if is_leftover(path.name):
            path.unlink()


@contextlib.contextmanager
def tolerated(what: str) -> Iterator[None]:
    """Work on the disk that can wait: what was decided or is told stands, whatever the disk says."""
    try:
        yield
    except OSError as error:
        log.warning("%s error=%s", what, error)


def _read(path: Path) -> VersionFacts:
    try:
        return decode(path.read_bytes(), VersionFacts)
    except (OSError, DocumentError) as error:
        raise ShelfError(
            f"{path} cannot be used: {error}; restore the server's state from a backup, or remove that "
            "folder: boards then hand in their offers again"
        ) from error


def _of_board(path: Path) -> BoardFacts:
    """What is known of a board: nothing before its first offer was admitted, or where that is damaged.

    One board's file keeps no fleet from its server: what it lacks the versions say, and the board.
    """
    try:
        return decode(path.read_bytes(), BoardFacts)
    except FileNotFoundError:
        pass
    except (OSError, DocumentError) as error:
        if isinstance(error, OSError) and error.errno != errno.EIO:
            raise
        log.warning(
            "what was known of a board is lost, its offer is asked for again path=%s error=%s", path, error
        )
    return BoardFacts()
