"""Restores a backup into an empty state folder; see ``backup``."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.curation.backup import FORMAT, MANIFEST, BackupError, belongs, digest_of
from dance_ondevice.daemon.system.state import StateLock, StatePaths
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import sync_directory, write_synced

__all__ = ["Restored", "restore"]

#: Order in which the parts are moved into the state folder: the index last, so that an interrupted restore
#: leaves files without an index, from which the next start rebuilds one.
_PARTS = ("classes.json", "teaching", "rounds", "models", "samples", "paused", "dance.db")
_SCRATCH = ".restore-"


@dataclass(frozen=True)
class Restored:
    """How many files were restored, and their bytes."""

    files: int
    bytes: int


def restore(source: Path, paths: StatePaths) -> Restored:
    """Check a backup in full, then put it into a state folder.

    Args:
        source: The tar file.
        paths: The folder to fill, created if it is missing. No daemon may run on it, and it must not hold a
            state.

    Raises:
        BackupError: The file is not a complete backup of this program, or the folder holds a state.
        StateInUse: A daemon runs on the folder.
        OSError: A file cannot be read or written.
    """
    with StateLock(paths):
        held = [name for name in _PARTS if _holds(paths.root / name)]
        if held:
            raise BackupError(
                f"{paths.root} holds a state already ({', '.join(held)}); give an empty folder with "
                "--state-dir, or move that one away"
            )
        for left in paths.root.glob(f"{_SCRATCH}*"):  # left by a restore that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=paths.root, prefix=_SCRATCH) as scratch:
            found = _unpack(source, Path(scratch))
            for name in _PARTS:
                if (Path(scratch) / name).exists():
                    with contextlib.suppress(OSError):  # an empty folder in its place
                        (paths.root / name).rmdir()
                    (Path(scratch) / name).rename(paths.root / name)
            sync_directory(paths.root)
    return found


def _holds(place: Path) -> bool:
    return any(place.iterdir()) if place.is_dir() else place.exists()


def _unpack(source: Path, folder: Path) -> Restored:
    """Write the content of a backup into a folder, and compare all of it with the manifest."""
    found: dict[str, tuple[int, str]] = {}
    manifest: bytes | None = None
    touched: set[Path] = set()
    try:
        # Whether or not somebody has compressed it, or unpacked it and packed it again, which adds folders.
        with tarfile.open(source, mode="r|*") as tar:
            for member in tar:
                if member.isdir():
                    continue
                name = member.name.removeprefix("./")
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is None or (name != MANIFEST and not belongs(name)):
                    raise BackupError(f"{source}: {member.name!r} does not belong into a backup")
                data = stream.read()
                if name == MANIFEST:
                    manifest = data
                    continue
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                write_synced(file, data)
                os.utime(file, (member.mtime, member.mtime))
                touched.update(Path(name).parents)
                found[name] = len(data), digest_of(data)
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"{source} is no whole backup: {error}") from error
    _compare(source, found, manifest)
    for place in touched:
        sync_directory(folder / place)
    return Restored(len(found), sum(size for size, _ in found.values()))


def _compare(source: Path, found: dict[str, tuple[int, str]], manifest: bytes | None) -> None:
    """Check that a backup is complete.

    Raises:
        BackupError: It is incomplete or damaged.
    """
    if manifest is None:
        raise BackupError(f"{source} is no whole backup: it has no {MANIFEST}, so it was cut short")
    try:
        told = decode(manifest, dict[str, Any])
        version = told["format"]
        files = {name: (int(size), str(digest)) for name, (size, digest) in told["files"].items()}
    except (DocumentError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BackupError(f"{source}: its {MANIFEST} cannot be read ({error})") from error
    if version != FORMAT:
        raise BackupError(
            f"{source} is of format {version}, this program reads {FORMAT}: install a later one"
        )
    wrong = sorted(name for name in files.keys() | found.keys() if files.get(name) != found.get(name))
    if wrong:
        raise BackupError(
            f"{source} is damaged: {len(wrong)} files are not what its {MANIFEST} says, such as {wrong[0]}"
        )
    if "dance.db" not in found:
        raise BackupError(f"{source} is no whole backup: it has no index")
