"""Restores a backup into an empty state folder; see ``backup``."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from dance_ondevice.daemon.curation.backup import FORMAT, MANIFEST, BackupError, belongs, new_digest
from dance_ondevice.daemon.system.owner import command_lock
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import sync_directory

__all__ = ["Restored", "restore"]

#: Order in which the parts are moved into the state folder: the index last, so that an interrupted restore
#: leaves files without an index, from which the next start rebuilds one.
_PARTS = ("classes.json", "teaching", "rounds", "models", "samples", "paused", "dance.db")
_SCRATCH = ".restore-"
_PIECE = 1 << 20
#: Bytes, for more than a million files.
_LONGEST_MANIFEST = 1 << 28


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
    with command_lock(paths), contextlib.ExitStack() as stack:
        held = [name for name in _PARTS if _holds(paths.root / name)]
        if held:
            raise BackupError(
                f"{paths.root} holds a state already ({', '.join(held)}); give an empty folder with "
                "--state-dir, or move that one away"
            )
        disks = {name: _disk(paths.root, name) for name in _PARTS}
        scratch: dict[Path, Path] = {}
        for disk in dict.fromkeys(disks.values()):
            for left in disk.glob(f"{_SCRATCH}*"):  # left by a restore that was killed
                shutil.rmtree(left, ignore_errors=True)
            scratch[disk] = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=disk, prefix=_SCRATCH)))
        found = _unpack(source, {name: scratch[disk] for name, disk in disks.items()})
        _move({scratch[disk] / name: (disk, paths.root / name) for name, disk in disks.items()})
        sync_directory(paths.root)
    return found


def _holds(place: Path) -> bool:
    """Whether there is anything in a place; what a new file system or a killed restore left is nothing."""
    if not place.is_dir():
        return place.exists()
    return any(left.name != "lost+found" and not left.name.startswith(_SCRATCH) for left in place.iterdir())


def _disk(root: Path, name: str) -> Path:
    """The folder in which a part is unpacked: its own where there is one, which may lie on another disk."""
    place = root / name
    return place if place.is_dir() else root


def _move(parts: Mapping[Path, tuple[Path, Path]]) -> None:
    """Move what was unpacked to its places; an error takes back what was moved.

    Args:
        parts: For each unpacked part the folder it was unpacked in, and its place, which may be that folder.
    """
    moved: list[Path] = []
    try:
        for part, (disk, place) in parts.items():
            if not part.exists():
                continue
            if disk == place:
                pairs = [(child, place / child.name) for child in part.iterdir()]
            else:
                pairs = [(part, place)]
            for source, target in pairs:
                source.rename(target)
                moved.append(target)
            sync_directory(disk)
    except BaseException:
        for target in reversed(moved):
            if target.is_dir():
                shutil.rmtree(target, ignore_errors=True)
            else:
                target.unlink(missing_ok=True)
        raise


def _unpack(source: Path, folders: Mapping[str, Path]) -> Restored:
    """Write each part of a backup into its folder, and compare all of it with the manifest."""
    found: dict[str, tuple[int, str]] = {}
    manifest: bytes | None = None
    touched: set[Path] = set()
    try:
        with (
            source.open("rb") as file,
            _decompressed(file) as plain,
            tarfile.open(fileobj=plain, mode="r|") as tar,
        ):
            for member in tar:
                name = _own_name(member.name)
                # To unpack a backup and pack it again adds folders, and on macOS a file beside each.
                if member.isdir() or name.rpartition("/")[2].startswith("._"):
                    continue
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is None or (name != MANIFEST and not belongs(name)):
                    raise BackupError(f"{source}: {member.name!r} does not belong into a backup")
                if name == MANIFEST:
                    manifest = stream.read(_LONGEST_MANIFEST)
                    continue
                folder = folders[name.partition("/")[0]]
                place = folder / name
                place.parent.mkdir(parents=True, exist_ok=True)
                found[name] = _write(place, stream)
                os.utime(place, (member.mtime, member.mtime))
                touched.update(folder / parent for parent in Path(name).parents)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of a disk, and none of gzip or bz2
            raise
        raise BackupError(f"{source} is no whole backup: {error}") from error
    _compare(source, found, manifest)
    for place in touched:
        sync_directory(place)
    return Restored(len(found), sum(size for size, _ in found.values()))


def _write(place: Path, stream: IO[bytes]) -> tuple[int, str]:
    """Write a file piece by piece, as a few compressed bytes may become many; its size and digest."""
    digest = new_digest()
    with place.open("wb") as file:
        while piece := stream.read(_PIECE):
            file.write(piece)
            digest.update(piece)
        file.flush()
        os.fsync(file.fileno())
        return file.tell(), digest.hexdigest()


def _decompressed(file: BufferedReader) -> contextlib.AbstractContextManager[Any]:
    """The content of a file, if it is compressed, even in several streams (as pbzip2 does); else the file."""
    head = file.peek(6)
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(file)
    if head.startswith(b"BZh"):
        return bz2.open(file)
    if head.startswith((b"\xfd7zXZ", b"]\0\0")):
        return lzma.open(file)
    return contextlib.nullcontext(file)


def _own_name(packed: str) -> str:
    """The name of a file in a backup, whether it was packed in its folder, or with it."""
    name = packed.removeprefix("./")
    first, _, rest = name.partition("/")
    return name if first in (*_PARTS, MANIFEST) or not rest else rest


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
