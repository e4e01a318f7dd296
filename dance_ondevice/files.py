"""Atomic and durable writes: after a crash or a power cut a file has its old content or the new one, whole.

All writes use temporary files with one form of name, which :func:`is_leftover` recognises, so that the files
of a killed process can be found and removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

Data = bytes | bytearray | memoryview

#: Names of temporary files; earlier versions wrote ``.<name>.<process id>.part``.
_LEFTOVER = re.compile(r"\.(.+)\.(?:[0-9a-f]{8}\.tmp|[0-9]+\.part)")


def temporary_beside(path: Path) -> Path:
    """Return a new hidden name in the same folder, for a file that is later renamed to ``path``."""
    # Of the kernel: `random` repeats itself where a program seeds it, as a round does, and after a fork.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def is_leftover(name: str) -> bool:
    """Return whether a file name is that of a temporary file of this package."""
    return leftover_of(name) is not None


def leftover_of(name: str) -> str | None:
    """Return the final name of a temporary file; None for a name that is not temporary."""
    found = _LEFTOVER.fullmatch(name)
    return None if found is None else found[1]


def read_regular(path: Path) -> bytes:
    """The content of a file, unless it is a pipe, a device or a socket, which could keep its reader for ever.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    # A pipe is opened without waiting for somebody who writes into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "a folder lies where a file belongs", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "a pipe, device or socket lies where a file belongs", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Staged:
    """A file that is written in full under a temporary name, and still open.

    Call ``flush`` and then ``rename`` to make it appear, or ``discard`` to remove it.

    Attributes:
        path: Final path.
        temporary: Temporary path.
        descriptor: Descriptor of the open file.
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

    def rename(self) -> None:
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


def check_replaceable(path: Path) -> None:
    """Check that a file may be put in a path's place.

    A rename to ``/dev/null`` or ``/dev/stdout``, where root does it, makes a file of it for all programs.

    Raises:
        OSError: A device, a pipe, a socket or a link to one is there.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing is there, or the rename itself tells
        return
    # Links of /dev, such as stdout, may lead to a file, and are devices for all that.
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or path.absolute().parent == Path("/dev"):
        raise OSError(errno.EINVAL, "a pipe, device or socket lies there: give the name of a file", str(path))


def stage(path: Path, data: Data) -> Staged:
    """Write a file under a temporary name beside ``path``.

    Raises:
        OSError: It could not be written in full, or ``path`` is a device or pipe; nothing is left behind.
    """
    check_replaceable(path)
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
    staged.rename()
    sync_directory(path.parent)


def write_whole(path: Path, data: Data) -> None:
    """Write a file that appears whole or not at all, whoever else is writing it; the last one stays.

    Survives the end of the process at any moment, not a power cut.

    Raises:
        OSError: It could not be written; the old file is untouched and nothing is left beside it.
    """
    stage(path, data).rename()


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
    """Remove a file if possible; an error here is ignored, since the caller reports the first one."""
    with contextlib.suppress(OSError):
        path.unlink()
