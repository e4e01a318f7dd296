"""The releases of a fleet in a board's folder: whole, or made of one that is there and files of changes.

The box calls it with its lock held. What changes do not make exactly, byte for byte, is fetched whole.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dance_ondevice.daemon.wire.fleet_messages import PIECE, Change, Release
from dance_ondevice.files import is_leftover, write_durably
from dance_ondevice.fleet.releases import ReleaseError, apply_change, release_name
from dance_ondevice.fleet.root import Root

__all__ = ["BoxError", "Releases", "Want"]

log = logging.getLogger(__name__)

#: A release has at most so many times the bytes of this board's own; without one, so many bytes. A file is
#: read whole into memory, and nobody vouches for what a server says of its size.
_MOST_TIMES, _MOST_BYTES = 4, 256 << 20


class BoxError(Exception):
    """Error: a piece cannot be taken or handed out; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Want:
    """A file that the board lacks, a release or a change, and the bytes that it has of it."""

    release: Release
    have: int


class Releases:
    """The files in one folder, which is created when something is written."""

    def __init__(
        self,
        folder: Path,
        root: Root,
        *,
        free_bytes: Callable[[], int],
        own: Callable[[], bytes | None],
    ) -> None:
        """Read nothing yet.

        Args:
            folder: The folder.
            root: The model that all boards began with.
            free_bytes: The bytes that may be written without leaving the disk too full.
            own: Makes the root's release of this board's first model; None where that is none.
        """
        self._folder = folder
        self._root = root
        self._free_bytes = free_bytes
        self._own = own
        #: The name of what ``own`` makes, once it is known.
        self._own_name = ""
        self._own_bytes = 0
        #: Releases that changes did not make.
        self._odd: set[str] = set()

    def path(self, sha256: str) -> Path:
        """The file of a release, which may not be there."""
        return self._folder / f"{sha256}.safetensors"

    def whole(self, sha256: str) -> bytes | None:
        """A release that is here, or is the root's; None if it is neither."""
        try:
            return self.path(sha256).read_bytes()
        except FileNotFoundError:
            return self._own() if sha256 and sha256 == self.own_name() else None

    def sound(self, sha256: str) -> bool:
        """Whether a release is here as it should be; one that is not goes.

        Raises:
            OSError: The disk fails.
        """
        path = self.path(sha256)
        try:
            if release_name(path.read_bytes()) == sha256:
                return True
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        log.warning("a fleet version is damaged and fetched again path=%s", path)
        path.unlink(missing_ok=True)
        return False

    def own_name(self) -> str:
        """The name of the root's release; empty where this board does not have the root (yet)."""
        if not self._own_name:
            found = self._own()
            self._own_name = release_name(found) if found is not None else ""
            self._own_bytes = len(found) if found is not None else 0
        return self._own_name

    def missing(self, wanted: Iterable[Release], changes: Sequence[Change]) -> tuple[Want, ...]:
        """Make what can be made of what is here; returns the files that have to be fetched.

        Args:
            wanted: The releases that should be here.
            changes: What the server has to make some of them.

        Raises:
            OSError: The disk is full or fails.
        """
        found: dict[str, Release] = {}
        for release in wanted:
            if self.path(release.sha256).exists():
                continue
            chain = self._chain(release, changes)
            lacking = [each for each in chain or () if not self._change(each.sha256).exists()]
            if chain is None:
                found[release.sha256] = release
            elif lacking:
                for each in lacking:
                    found[each.sha256] = Release(number=release.number, sha256=each.sha256, size=each.size)
            elif not self._made(release, chain):
                found[release.sha256] = release
        return tuple(Want(release=each, have=_size(self._part(name))) for name, each in found.items())

    def held(self, file: Release) -> int:
        """The bytes of a file that are here."""
        whole = self.path(file.sha256).exists() or self._change(file.sha256).exists()
        return file.size if whole else _size(self._part(file.sha256))

    def take(self, file: Release, offset: int, data: bytes, *, change: bool) -> int:
        """Take in a piece of a file; returns the bytes that are there, all of them once it is whole.

        Args:
            file: Name and size.
            offset: Where the piece begins.
            data: The piece.
            change: Whether it is a change, and not a release.

        Raises:
            BoxError: It is too large, or the disk is too full.
            OSError: The disk is full or fails.
        """
        part = self._part(file.sha256)
        whole = self._change(file.sha256) if change else self.path(file.sha256)
        if whole.exists():
            return file.size
        have = _size(part)
        if offset != have or have + len(data) > file.size or not data:
            return have
        if not have and file.size > (most := self._most_bytes()):
            raise BoxError(f"a file of version {file.number} has {file.size} bytes, a model at most {most}")
        if self._free_bytes() < file.size - have:
            raise BoxError("the disk is too full for it: storage.min_free_bytes stays free")
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as out:
            try:
                out.write(data)
                out.flush()
            except OSError:
                os.truncate(part, have)
                raise
        have += len(data)
        if have == file.size:
            content = part.read_bytes()
            part.unlink()
            if hashlib.sha256(content).hexdigest() != file.sha256:
                return 0  # damaged on the way: once more
            write_durably(whole, content)
        return have

    def tidy(self, keep: Iterable[str]) -> None:
        """Remove all but these releases and changes, and what a crash has left."""
        kept = set(keep)
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if is_leftover(path.name) or path.name.partition(".")[0] not in kept:
                path.unlink(missing_ok=True)

    def _chain(self, release: Release, changes: Sequence[Change]) -> list[Change] | None:
        """Changes that make a release of one that is here, first to last; None where it is better whole."""
        if release.sha256 in self._odd:
            return None
        by_release = {each.release: each for each in changes}
        chain: list[Change] = []
        at = release.sha256
        while not self.path(at).exists() and at != self.own_name():
            change = by_release.pop(at, None)
            if change is None:
                return None
            chain.append(change)
            at = change.base
        cheap = sum(each.size for each in chain) < release.size
        return chain[::-1] if cheap else None

    def _made(self, release: Release, chain: Sequence[Change]) -> bool:
        """Make a release of what is here; whether it came out with its name.

        Raises:
            OSError: The disk is full or fails.
        """
        data = self.whole(chain[0].base if chain else release.sha256)
        try:
            for change in chain:
                if data is not None:
                    data = apply_change(self._root, self._change(change.sha256).read_bytes(), data)
        except ReleaseError as error:
            log.warning("fleet version is fetched whole number=%d error=%s", release.number, error)
            data = None
        if data is None or release_name(data) != release.sha256:
            self._odd.add(release.sha256)
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        write_durably(self.path(release.sha256), data)
        return True

    def _most_bytes(self) -> int:
        self.own_name()
        return _MOST_TIMES * self._own_bytes + PIECE if self._own_bytes else _MOST_BYTES

    def _change(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.change"

    def _part(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.part"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
