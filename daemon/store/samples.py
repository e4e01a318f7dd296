"""A stored sample: its values, its errors and its files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlite_utils import Database

from dance_ondevice.daemon.system.state import StatePaths, parse_sample_id, sample_id
from dance_ondevice.daemon.system.workers import Workers
from dance_ondevice.files import Staged, read_regular, stage, sync_directory
from dance_ondevice.images.headers import ImageError, probe

FORMATS = ("jpg", "png")
LABEL_SUFFIX = ".label.png"

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CHUNK = 500  # ids in one statement, below every SQLite build's limit on parameters


class StoreError(RuntimeError):
    """The store could not do what was asked; the message says why and what to do."""


class StoreFull(StoreError):  # noqa: N818
    """The sample exceeds the quota or the free space, and nothing may be evicted for it."""


class UnknownSample(StoreError):  # noqa: N818
    """There is no sample of this id: it was never kept, or was evicted since."""


class LabelMismatch(StoreError):  # noqa: N818
    """The label is not an image of the sample's native size."""


class OtherPicture(StoreError):  # noqa: N818
    """A frame has the sequence number and the time of another picture that came."""

    def __init__(self, seq: int, captured_at: float) -> None:
        super().__init__(
            f"another picture came with captured_at {captured_at:.6f} and seq {seq}: count seq up by one for "
            "each frame, and give captured_at in seconds since 1970 with its fraction"
        )


class LabelEmpty(StoreError):  # noqa: N818
    """The label has 255 in every pixel, so there is nothing to learn from it."""


class LabelChanged(StoreError):  # noqa: N818
    """The label was replaced by another one since: the one that is meant is gone."""


class LabelProtected(StoreError):  # noqa: N818
    """A person or the camera labelled the sample: a model must not replace that label."""


@dataclass(frozen=True, kw_only=True)
class NewSample:
    """A frame that is to be kept.

    Attributes:
        id: The sample's id, as ``sample_id`` makes it from camera, time and sequence number.
        camera: The camera's name.
        seq: The sender's sequence number.
        captured_at: Wall-clock seconds since the epoch, from the sender.
        received_at: Wall-clock seconds since the epoch, of this board.
        data: The encoded image as it is to be stored.
        format: Format of ``data``, ``"jpg"`` or ``"png"``.
        width: Pixels of the stored image.
        height: Pixels of the stored image.
        native_width: Pixels of the frame as captured; a label has this size.
        native_height: Pixels of the frame as captured.
        score: Spatial complexity, 0 to 1.
        quantile: Rank of the score in the camera's recent stream, 0 to 1.
        scale: Stored size as a fraction of the native one.
        weight: Weight in the training loss.
        reason: Why the frame was kept, in words.
        label: PNG of class ids, or None.
        label_source: Source of the label; None without one.
        classes: Class ids in the label; None without one.
        received_digest: ``image_digest`` of the image as it came; None when ``data`` is that image.
        signature: Signature of the image, by which near-duplicates are found; None when it was not computed.
    """

    id: str
    camera: str
    seq: int
    captured_at: float
    received_at: float
    data: bytes
    format: str
    width: int
    height: int
    native_width: int
    native_height: int
    score: float
    quantile: float
    scale: float
    weight: float
    reason: str
    label: bytes | None = None
    label_source: str | None = None
    classes: tuple[int, ...] | None = None
    received_digest: str | None = None
    signature: str | None = None

    @property
    def size(self) -> int:
        """Bytes on disk, label included."""
        return len(self.data) + len(self.label or b"")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The answer that a sample is stored: it survives a crash.

    Attributes:
        id: Id of the stored sample; of the earlier one for a duplicate.
        duplicate: Whether the frame had been stored before.
        score: Spatial complexity of the stored sample.
        scale: Scale of the stored sample.
        kept: Always true.
    """

    id: str
    duplicate: bool
    score: float
    scale: float
    kept: bool = True


def digest(data: bytes | memoryview) -> str:
    """BLAKE2b of 16 bytes, in hex: identifies a label."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def image_digest(data: bytes | memoryview) -> str:
    """SHA-1 in hex: tells whether an image is the one that came before under the same number.

    Nothing depends on its being hard to forge, and most processors have instructions for it.
    """
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def image_path(paths: StatePaths, sample: NewSample) -> Path:
    """The path of the sample's image.

    Raises:
        StoreError: Format, id, camera or time cannot name a file.
    """
    if sample.format not in FORMATS:
        raise StoreError(f"sample {sample.id!r}: format {sample.format!r} is not one of {', '.join(FORMATS)}")
    try:
        directory = paths.sample_dir(sample.camera, sample.captured_at)
    except ValueError as error:
        raise StoreError(f"sample {sample.id!r}: {error}") from error
    # Nearly every id is that of its frame; only one that is not is taken apart.
    if sample.id != sample_id(sample.camera, sample.captured_at, sample.seq):
        numbers = parse_sample_id(sample.camera, sample.id)
    else:
        numbers = (sample.captured_at, sample.seq)
    if numbers is None or numbers[1] != sample.seq:
        raise StoreError(f"sample {sample.id!r}: the id is not {sample.camera}-<microseconds>-{sample.seq}")
    return directory / f"{sample.id}.{sample.format}"


def label_path(image: Path) -> Path:
    """The path of an image's label."""
    return image.with_name(image.stem + LABEL_SUFFIX)


def native_size(png: bytes, stored: tuple[int, int], native: tuple[int, int] | None) -> tuple[int, int]:
    """Check a label's size; returns the native size of its sample.

    Args:
        png: The label.
        stored: Width and height of the stored image.
        native: Width and height as captured, or None when they are unknown (a sample rebuilt from its file):
            then any size is accepted that ``stored`` may be a scaled copy of.

    Returns:
        Width and height as captured.

    Raises:
        LabelMismatch: The label is not an 8-bit single-channel PNG of that size.
    """
    try:
        info = probe(png)
    except ImageError as error:
        raise LabelMismatch(f"the label is not a readable image: {error}") from error
    if (info.format, info.channels, info.bit_depth) != ("png", 1, 8):
        raise LabelMismatch(
            f"the label is a {info.bit_depth}-bit {info.format} of {info.channels} channels, "
            "it must be an 8-bit single-channel PNG"
        )
    size = (info.width, info.height)
    if native is not None:
        if size != native:
            raise LabelMismatch(
                f"the label is {size[0]}x{size[1]} and the frame {native[0]}x{native[1]}: they must be equal"
            )
        return native
    # A scaled copy keeps the aspect to within half a pixel a side.
    skew = abs(size[0] * stored[1] - size[1] * stored[0])
    if size[0] < stored[0] or size[1] < stored[1] or skew > (size[0] + size[1]) / 2:
        raise LabelMismatch(
            f"the label is {size[0]}x{size[1]} and the stored image {stored[0]}x{stored[1]}: "
            "that image is no scaled copy of a frame of the label's size"
        )
    return size


def files_of(path: Path) -> tuple[int, int] | None:
    """Files on the file system of ``path``, and how many more it takes; None where it has no such limit."""
    try:
        status = os.statvfs(next(folder for folder in (path, *path.parents) if folder.exists()))
    except OSError:  # the disk fails altogether
        return None
    return (status.f_files - status.f_ffree, status.f_favail) if status.f_files else None


def free_files(path: Path) -> int | None:
    """Files that may still be made on the file system of ``path``; None where it has no such limit."""
    files = files_of(path)
    return files[1] if files else None


def storage_error(error: OSError, path: Path) -> StoreError:
    """The error for users that a failed write amounts to."""
    if error.errno == errno.ENOSPC and free_files(path.parent) == 0:
        return StoreFull(
            f"the disk is full ({path.parent}): bytes are free, but its file system holds no more files "
            "(df -i): remove other files, lower storage.quota_bytes, or make it anew with more "
            "(mkfs.ext4 -i 4096)"
        )
    if error.errno in _FULL:
        return StoreFull(f"the disk is full ({path.parent}): free some space or lower storage.quota_bytes")
    if error.errno == errno.EROFS:
        return StoreError(f"{path.parent} is on a read-only file system: remount it for writing ({error})")
    return StoreError(f"{path} could not be written: {error}; check the disk and the folder's permissions")


class SampleFiles:
    """Writes the files of a group, and makes all of them durable at once.

    Making a file durable is mostly waiting, and a disk that flushes for one file flushes for all that wait at
    that moment. So files are written under temporary names as they come, flushed together on a few threads,
    and only then renamed to their final paths.
    """

    def __init__(self, paths: StatePaths, flushers: Workers) -> None:
        """``flushers`` are threads that wait for the disk; the caller closes them."""
        self._root = paths.root
        self._flushers = flushers
        self._staged: dict[Path, Staged] = {}
        self._failed: dict[Path, OSError] = {}
        self._entered: set[Path] = set()
        self._touched: set[Path] = set()
        #: Folders that were there when the present group wrote to them.
        self._seen: set[Path] = set()

    def stage(self, path: Path, data: bytes) -> None:
        """Write a file under a temporary name; ``place`` renames it to ``path``.

        Raises:
            StoreFull: The disk is full.
            StoreError: Any other failure; ``path`` is unchanged.
        """
        if path in self._staged:  # twice in one group: the second replaces the first
            self._place()
        try:
            self._enter(path.parent)
            self._staged[path] = stage(path, data)
        except OSError as error:
            raise storage_error(error, path) from error

    def current(self, path: Path) -> bytes | None:
        """The file at a path, as it is now or will be once ``place`` is called; None if it cannot be read."""
        if path in self._staged:
            self._place()
        try:
            return read_regular(path)
        except OSError:
            return None

    def unstage(self, path: Path) -> None:
        """Drop a staged file."""
        staged = self._staged.pop(path, None)
        if staged is not None:
            staged.discard()

    def place(self) -> dict[Path, OSError]:
        """Flush all staged files and rename them to their final paths; ``sync`` makes the names durable.

        Returns:
            The paths that could not be written, with their errors; they are unchanged.
        """
        self._place()
        failed, self._failed = self._failed, {}
        return failed

    def sync(self) -> dict[Path, OSError]:
        """Flush every folder written to since the last call; returns those that failed, with their errors."""
        failed: dict[Path, OSError] = {}
        for directory in sorted(self._touched):
            try:
                sync_directory(directory)
            except OSError as error:
                failed[directory] = error
        self._entered |= self._touched - failed.keys()
        self._entered -= failed.keys()
        self._touched = set()
        self._seen = set()
        return failed

    def abandon(self) -> None:
        """Drop all staged files, since the group failed."""
        for path in tuple(self._staged):
            self.unstage(path)
        self._failed.clear()
        self._seen = set()

    def _place(self) -> None:
        staged, self._staged = self._staged, {}
        for file, error in zip(staged.values(), self._flush(list(staged.values())), strict=True):
            if error is not None:
                self._failed[file.path] = error
                file.discard()
                continue
            try:
                file.rename()
                self._touched.add(file.path.parent)
            except OSError as failure:
                self._failed[file.path] = failure

    def _flush(self, files: Sequence[Staged]) -> list[OSError | None]:
        if len(files) < 2:
            return [_flush(file) for file in files]
        shares = [
            files[start :: self._flushers.count] for start in range(min(len(files), self._flushers.count))
        ]
        waiting = [self._flushers.submit(partial(_flush_all, share)) for share in shares]
        found = [future.result() for future in waiting]
        return [found[number % len(shares)][number // len(shares)] for number in range(len(files))]

    def _enter(self, directory: Path) -> None:
        # Once in the life of the process the whole chain of folders is flushed, even if it exists: a crash
        # may have come between an earlier mkdir and the flush of its parent.
        if directory in self._seen or (directory in self._entered and directory.is_dir()):
            self._seen.add(directory)
            return
        directory.mkdir(parents=True, exist_ok=True)
        self._touched.add(directory)
        for parent in directory.parents:
            self._touched.add(parent)
            if parent == self._root:
                break


def _flush_all(files: Sequence[Staged]) -> list[OSError | None]:
    return [_flush(file) for file in files]


def _flush(file: Staged) -> OSError | None:
    try:
        file.flush()
    except OSError as error:
        return error
    return None


def delete_files(image: Path) -> None:
    """Remove a sample's files, label first: an image without a label is a sample, a label alone is not."""
    for path in (label_path(image), image):
        with contextlib.suppress(OSError):  # a file that stays is adopted or reported at the next start
            path.unlink()


def delete_samples(db: Database, paths: StatePaths, ids: Sequence[str]) -> int:
    """Remove samples: rows first, in a transaction of their own, then the files.

    Returns:
        Number of samples that existed.

    Raises:
        sqlite3.Error: The rows could not be removed; the files are untouched.
    """
    images: list[Path] = []
    with db.atomic():
        for start in range(0, len(ids), _CHUNK):
            chunk = list(ids[start : start + _CHUNK])
            where = f"WHERE id IN ({', '.join('?' * len(chunk))})"
            rows = db.execute(f"SELECT path FROM samples {where}", chunk).fetchall()
            images += [paths.root / path for (path,) in rows]
            db.execute(f"DELETE FROM samples {where}", chunk)
    for image in images:
        delete_files(image)
    for directory in {image.parent for image in images}:
        with contextlib.suppress(OSError):  # not empty: the usual case
            directory.rmdir()
    return len(images)
