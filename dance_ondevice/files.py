"""Writing files so that other processes, a crash or a power cut see the old content or the new one, whole.

Everything that writes goes through one form of temporary file, which :func:`is_leftover` knows: what a killed
process leaves behind can be found and removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

Data = bytes | bytearray | memoryview

#: ``.<name>.<process id>.part`` is what earlier versions wrote.
_LEFTOVER = re.compile(r"\.(.+)\.(?:[0-9a-f]{8}\.tmp|[0-9]+\.part)")


def temporary_beside(path: Path) -> Path:
    """A new hidden name in the same folder, to write a file under before it is renamed to ``path``."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def is_leftover(name: str) -> bool:
    """Whether a file name is one that this package writes under before the rename."""
    return leftover_of(name) is not None


def leftover_of(name: str) -> str | None:
    """The name that a temporary file would have got; None for a name that is not temporary."""
    found = _LEFTOVER.fullmatch(name)
    return None if found is None else found[1]


@dataclass(frozen=True)
class Staged:
    """A file that is written in full under a temporary name, and still open.

    ``flush`` and then ``place`` make it appear; ``discard`` instead of either leaves everything as it was.

    Attributes:
        path: Where it is to appear.
        temporary: Where it lies until then.
        descriptor: The open file.
    """

    path: Path
    temporary: Path
    descriptor: int

    def flush(self) -> None:
        """Wait until the content is on the medium.

        Raises:
            OSError: The medium failed.
        """
        os.fsync(self.descriptor)

    def place(self) -> None:
        """Close the file and rename it to its path.

        The name is durable after ``sync_directory`` of the folder.

        Raises:
            OSError: The rename failed; nothing is left behind and the old file is untouched.
        """
        os.close(self.descriptor)
        try:
            self.temporary.replace(self.path)
        except OSError:
            _remove(self.temporary)
            raise

    def discard(self) -> None:
        """Close the file and remove it."""
        os.close(self.descriptor)
        _remove(self.temporary)


def stage(path: Path, data: Data) -> Staged:
    """Write a file under a temporary name beside ``path``.

    Raises:
        OSError: It could not be written in full; nothing is left behind.
    """
    temporary = temporary_beside(path)
    return Staged(path, temporary, _open_written(temporary, data))


def write_durably(path: Path, data: Data) -> None:
    """Replace a file so that a reader, a crash or a power cut sees either the old or the new content whole.

    Raises:
        OSError: It could not be written; the old file is untouched and nothing is left beside it.
    """
    staged = stage(path, data)
    try:
        staged.flush()
    except BaseException:
        staged.discard()
        raise
    staged.place()
    sync_directory(path.parent)


def write_whole(path: Path, data: Data) -> None:
    """Write a file that appears whole or not at all, whoever else is writing it; the last one stays.

    Survives the end of the process at any moment, not a power cut.

    Raises:
        OSError: It could not be written; the old file is untouched and nothing is left beside it.
    """
    stage(path, data).place()


def write_synced(path: Path, data: Data) -> None:
    """Write a file in place and flush it to the medium; one left half-written by an error is removed again.

    The name is durable only once ``sync_directory`` of its folder has run as well.

    Raises:
        OSError: It could not be written in full.
    """
    descriptor = _open_written(path, data)
    try:
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        _remove(path)
        raise


def sync_directory(directory: Path) -> None:
    """Flush the names in a folder to the medium.

    Raises:
        OSError: The folder is missing or the medium failed.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_written(path: Path, data: Data) -> int:
    """Write a file and leave it open; one left half-written by an error is removed again."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BaseException:
        os.close(descriptor)
        _remove(path)
        raise
    return descriptor


def _remove(path: Path) -> None:
    """Remove a file if that is possible; the error that led here says more than this one would."""
    with contextlib.suppress(OSError):
        path.unlink()
