"""Backs up a state folder as one tar file, while the service may run.

The index comes first, copied by SQLite's online backup, so that it is complete and of one moment; a plain
copy of ``dance.db`` would lack the content of its write-ahead log. The files that it names follow, each read
as a whole, and at the end a manifest with the size and the BLAKE2b digest of each. An interrupted backup has
no manifest, and is refused by ``restore``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dance_ondevice import __version__
from dance_ondevice.daemon.store.service import open_reader
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.files import is_leftover, read_regular, sync_directory, temporary_beside

__all__ = ["FORMAT", "MANIFEST", "BackedUp", "BackupError", "back_up", "belongs", "new_digest"]

FORMAT = 1
MANIFEST = "manifest.json"
#: Pattern of the names in a backup: the index, samples, versions, jobs of rounds, small settings.
_BELONGS = re.compile(
    r"dance\.db|paused|classes\.json|samples/[^/]+/[^/]+/[^/]+|models/[^/]+\.json|models/[^/]+/[^/]+|rounds/[^/]+/job\.json"
    r"|rounds/[^/]+\.json|teaching/[^/]+\.json"
)


class BackupError(RuntimeError):
    """A backup cannot be made or used; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class BackedUp:
    """Counts of a backup.

    Attributes:
        files: Number of files, the index included.
        bytes: Bytes of all of them.
        samples: Number of rows of the index.
        missing: Number of files that the index names and that were gone or unreadable.
    """

    files: int
    bytes: int
    samples: int
    missing: int


def new_digest(data: bytes = b"") -> hashlib.blake2b:
    """The digest of a file in a backup, BLAKE2b of 32 bytes, to which more data can be added."""
    return hashlib.blake2b(data, digest_size=32)


def belongs(name: str) -> bool:
    """Whether a name may be in a backup: relative, plain, and of a file of the state folder."""
    parts = PurePosixPath(name).parts
    return ".." not in parts and "\0" not in name and _BELONGS.fullmatch(name) is not None


def back_up(paths: StatePaths, target: Path) -> BackedUp:
    """Write a backup of a state folder, whether or not a daemon runs on it.

    Args:
        paths: Paths of the state folder.
        target: The tar file to write; it appears complete or not at all, and only its owner may read it.

    Raises:
        BackupError: There is no index, ``target`` exists already, or its folder does not.
        StoreError: The index cannot be opened.
        sqlite3.Error: The index cannot be copied.
        OSError: A file cannot be written.
    """
    if not paths.has_database():
        raise BackupError(f"{paths.database} is not there; give the daemon's folder with --state-dir")
    if target.exists():
        raise BackupError(f"{target} is there already; give another name or remove it")
    if not target.absolute().parent.is_dir():
        raise BackupError(f"there is no folder {target.absolute().parent}; make it, or mount its disk")
    temporary = temporary_beside(target)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                made = _write(paths, tar, target.absolute().parent)
            out.flush()
            os.fsync(out.fileno())
        temporary.rename(target)
        sync_directory(target.absolute().parent)
    except BaseException:
        with contextlib.suppress(OSError):  # the error that led here is more informative
            temporary.unlink()
        raise
    return made


def _write(paths: StatePaths, tar: tarfile.TarFile, scratch: Path) -> BackedUp:
    writer = _Writer(tar)
    # Read before the versions are listed, so that the version it names is in the list even if another is
    # promoted.
    live = _read(paths.live_file)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".backup-") as folder:
        copy = Path(folder) / "dance.db"
        stored = _copy_index(paths, copy)
        writer.add_file("dance.db", copy)
    if live is not None:
        writer.add("models/live.json", live, time.time())
    missing = 0
    for name in [*_others(paths), *stored.files]:
        if belongs(name):
            missing += not writer.add_file(name, paths.root / name) and name in stored.names
    manifest = {
        "format": FORMAT,
        "made_by": __version__,
        "made_at": time.time(),
        "files": {name: list(facts) for name, facts in writer.manifest.items()},
    }
    writer.add(MANIFEST, json.dumps(manifest).encode(), time.time())
    return BackedUp(
        files=len(writer.manifest) - 1,
        bytes=sum(size for size, _ in writer.manifest.values()),
        samples=stored.samples,
        missing=missing,
    )


class _Writer:
    """Adds members to the tar file and records their sizes and digests."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.manifest: dict[str, tuple[int, str]] = {}

    def add(self, name: str, data: bytes, written_at: float) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.mode = len(data), written_at, 0o644
        self._tar.addfile(member, io.BytesIO(data))
        self.manifest[name] = len(data), new_digest(data).hexdigest()

    def add_file(self, name: str, file: Path) -> bool:
        """Add a file in its present state; returns whether it could be read."""
        data = _read(file)
        if data is None:
            return False
        try:
            written_at = file.stat().st_mtime
        except OSError:  # evicted while it was read
            written_at = time.time()
        self.add(name, data, written_at)
        return True


@dataclass(frozen=True)
class _Stored:
    files: tuple[str, ...]
    samples: int

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.files)


def _copy_index(paths: StatePaths, copy: Path) -> _Stored:
    """Copy the index as it is at one moment, and list the files that it names."""
    source = open_reader(paths)
    try:
        target = sqlite3.connect(copy)
        try:
            source.conn.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
            # In the order of storing; an index of an earlier version is backed up as it is.
            rows = target.execute("SELECT path, label_path FROM samples ORDER BY rowid").fetchall()
        finally:
            target.close()
    finally:
        source.close()
    return _Stored(tuple(name for row in rows for name in row if name), len(rows))


def _others(paths: StatePaths) -> Iterator[str]:
    """The files of a state besides index and samples, relative to its folder."""
    patterns = (
        "paused",
        "classes.json",
        "models/*.json",
        "models/*/*",
        "rounds/*/job.json",
        "rounds/*.json",
        "teaching/*.json",
    )
    for pattern in patterns:
        for file in sorted(paths.root.glob(pattern)):
            # From the state folder on, which may be hidden itself, or lie in one that is.
            inside = file.relative_to(paths.root)
            hidden = any(part.startswith(".") or is_leftover(part) for part in inside.parts)
            name = inside.as_posix()
            if name != "models/live.json" and not hidden and file.is_file():
                yield name


def _read(file: Path) -> bytes | None:
    try:
        return read_regular(file)
    except OSError:  # evicted or pruned since it was listed
        return None
