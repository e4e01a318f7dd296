"""The files of an export: a folder as a labelling tool writes it, a zip archive, or a single file.

Nothing is unpacked to the disk: a member of a zip is read inside the archive, so no path in it is followed.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from types import TracebackType

from dance_ondevice.label_formats.regions import FormatError

__all__ = ["Entry", "Tree", "is_zip"]

#: Limits of a folder; a folder with more files or levels is not an export.
MOST_FILES = 100_000
DEEPEST = 8
#: Limits of a zip: members, bytes of one and of all once unpacked, and from a size on the ratio of unpacked
#: to packed bytes. Text and masks are packed to a hundredth at best.
MOST_MEMBERS = 50_000
MEMBER_BYTES = 512 << 20
ZIP_BYTES = 2 << 30
RATIO = 200
_RATIO_FROM = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A file of an export: its path in it, and the function that reads its bytes.

    ``read`` raises ``OSError`` or, for a damaged zip, ``FormatError``.
    """

    path: PurePosixPath
    read: Callable[[], bytes]

    @property
    def name(self) -> str:
        """Return the file's name."""
        return self.path.name


def is_zip(path: Path) -> bool:
    """Return whether a path is a zip archive, by its ending or its content."""
    return path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path))


class Tree:
    """Every file below a path, zips opened; a context manager, in which entries can be read."""

    def __init__(self, path: Path) -> None:
        """Prepare to read `path`: a folder, a zip, or any other file, which then is the only entry."""
        self._path = path
        self._open = ExitStack()
        self.entries: tuple[Entry, ...] = ()

    def __enter__(self) -> Tree:
        """List the files.

        Raises:
            FormatError: There are too many files, or a zip is damaged or beyond its limits.
            OSError: A folder or file cannot be read.
        """
        try:
            self.entries = tuple(self._all())
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the zips."""
        self._open.close()

    def _all(self) -> Iterator[Entry]:
        if is_zip(self._path):  # a download may have another ending, or none
            yield from self._zip(self._path, PurePosixPath())
            return
        if not self._path.is_dir():
            yield from self._file(self._path, PurePosixPath(self._path.name), top=PurePosixPath())
            return
        root = self._path.resolve()
        count = 0
        for folder, folders, files in os.walk(root):
            here = Path(folder)
            folders[:] = sorted(folders) if len(here.relative_to(root).parts) < DEEPEST else []
            for name in sorted(files):
                file = here / name
                # A link that leads out of the folder is no part of the export.
                if not file.is_file() or not file.resolve().is_relative_to(root):
                    continue
                count += 1
                if count > MOST_FILES:
                    raise FormatError(
                        f"{self._path} holds more than {MOST_FILES} files: name the tool's folder"
                    )
                inside = PurePosixPath(*file.relative_to(root).parts)
                yield from self._file(file, inside, top=inside.with_suffix(""))

    def _file(self, file: Path, inside: PurePosixPath, *, top: PurePosixPath) -> Iterator[Entry]:
        if file.suffix.lower() == ".zip":
            yield from self._zip(file, top)
        else:
            yield Entry(inside, file.read_bytes)

    def _zip(self, file: Path, top: PurePosixPath) -> Iterator[Entry]:
        try:
            archive = self._open.enter_context(zipfile.ZipFile(file))
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise FormatError(f"{file} is no zip that can be read: {error}") from error
        members = [member for member in archive.infolist() if not member.is_dir()]
        _check_bounds(file, members)
        for member in members:
            yield Entry(top / _inside(file, member.filename), partial(_read, file, archive, member))


def _check_bounds(file: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MOST_MEMBERS:
        raise FormatError(
            f"{file} holds {len(members)} files; {MOST_MEMBERS} are allowed: unpack it yourself"
        )
    for member in members:
        large = member.file_size > _RATIO_FROM and member.file_size > RATIO * max(1, member.compress_size)
        if member.file_size > MEMBER_BYTES or large:
            raise FormatError(
                f"{file}: {member.filename!r} unpacks from {member.compress_size} to {member.file_size} "
                f"bytes; allowed are {MEMBER_BYTES} bytes and {RATIO} times the packed size"
            )
    whole, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
    if whole > ZIP_BYTES or (whole > _RATIO_FROM * 64 and whole > RATIO * max(1, packed)):
        raise FormatError(
            f"{file} unpacks from {packed} to {whole} bytes; allowed are {ZIP_BYTES} bytes and {RATIO} times "
            "the packed size"
        )


def _inside(file: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise FormatError(f"{file}: {name!r} is a path out of the zip, which no labelling tool writes")
    return path


def _read(file: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(member)
    # Encrypted members are a RuntimeError, methods of compression that Python lacks a NotImplementedError.
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error, EOFError, OSError) as error:
        raise FormatError(f"{file}: {member.filename!r} cannot be read: {error}") from error
