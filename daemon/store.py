"""The sample store: one thread that writes files and the SQLite index, durably and in groups."""

from __future__ import annotations

import json
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlite_utils import Database

from dance_ondevice.daemon.room import Room, free_bytes
from dance_ondevice.daemon.samples import (
    LabelMismatch,
    NewSample,
    SampleFiles,
    Stored,
    StoreError,
    StoreFull,
    UnknownSample,
    delete_files,
    delete_samples,
    digest,
    image_path,
    label_path,
    native_size,
)
from dance_ondevice.daemon.schema import migrate
from dance_ondevice.daemon.service import Service
from dance_ondevice.daemon.state import StatePaths, sync_directory

__all__ = [
    "LabelMismatch",
    "NewSample",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreSnapshot",
    "Stored",
    "UnknownSample",
    "digest",
    "open_reader",
    "open_writer",
]

log = logging.getLogger(__name__)
T = TypeVar("T")

#: A group ends at this many operations or bytes, so that an ack never waits for a long queue.
GROUP_OPERATIONS = 64
GROUP_BYTES = 64 << 20
_BUSY_SECONDS = 10.0
_IDLE_SECONDS = 1.0

_FIND = """
SELECT id, path, width, height, native_width, native_height, origin, label_path FROM samples
WHERE id = ? OR (camera = ? AND seq = ? AND received_digest = ?) ORDER BY id = ? DESC LIMIT 1
"""
_FIND_BY_ID = """
SELECT id, path, width, height, native_width, native_height, origin, label_path FROM samples WHERE id = ?
"""


@dataclass(frozen=True, kw_only=True)
class StoreSnapshot:
    """What the store holds.

    Attributes:
        samples_labelled: Samples with a label.
        samples_unlabelled: Samples without one.
        bytes: Images and labels together.
        free_bytes: Free on the file system.
    """

    samples_labelled: int = 0
    samples_unlabelled: int = 0
    bytes: int = 0
    free_bytes: int = 0


def open_writer(paths: StatePaths) -> Database:
    """Open the index for writing, WAL and fully synchronous, for the one thread that calls this."""
    connection = sqlite3.connect(paths.database, timeout=_BUSY_SECONDS)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return Database(connection, execute_plugins=False)
    except BaseException:
        connection.close()
        raise


def open_reader(paths: StatePaths) -> Database:
    """Open the index for reading, for the one thread that calls this; the caller closes it.

    Raises:
        StoreError: There is no index, or it cannot be opened.
    """
    uri = f"file:{quote(str(paths.database))}?mode=ro"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"{paths.database} cannot be opened ({error}): has the daemon run with this state directory, "
            "and may this user read it?"
        ) from error
    return Database(connection, execute_plugins=False)


@dataclass(frozen=True)
class _AddSample:
    sample: NewSample
    future: Future[Stored]


@dataclass(frozen=True)
class _AddLabel:
    sample_id: str
    png: bytes
    classes: Sequence[int]
    source: str
    future: Future[None]


@dataclass(frozen=True)
class _Remove:
    ids: Sequence[str]
    future: Future[int]


@dataclass(frozen=True)
class _Call:
    run: Callable[[Database], Any]
    future: Future[Any]


_Operation = _AddSample | _AddLabel | _Remove | _Call


@dataclass(frozen=True, kw_only=True)
class _Known:
    """A sample that is stored, or will be when this group is done."""

    id: str
    image: Path
    stored: tuple[int, int]
    native: tuple[int, int] | None
    label_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class _Step:
    """An operation whose files are in place: what remains is the row, and what to undo without it."""

    future: Future[Any]
    commit: Callable[[Database], Any]
    folder: Path | None = None
    image: Path | None = None


class Store(Service):
    """Owns the only SQLite write connection, and every file under ``samples``.

    Each method returns at once with a future, resolved once the effect is durable: file flushed and renamed,
    folder flushed, row committed. Callbacks of the futures run on the store's thread and must be quick.
    """

    max_silence = 60.0  # a group on a worn SD card

    def __init__(
        self,
        paths: StatePaths,
        *,
        quota_bytes: int,
        min_free_bytes: int,
        seed: int = 0,
        free_bytes: Callable[[Path], int] = free_bytes,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("store")
        self._paths = paths
        self._quota_bytes = quota_bytes
        self._min_free_bytes = min_free_bytes
        self._seed = seed
        self._free_bytes = free_bytes
        self._files = SampleFiles(paths)
        self._queue: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
        self._intake = threading.Lock()
        self._closed = False
        self._snapshot = StoreSnapshot()
        self._db: Database
        self._room: Room
        # Of the group at hand: samples by id, and ids by what makes a resent frame recognisable.
        self._known: dict[str, _Known] = {}
        self._frames: dict[tuple[str, int, str], str] = {}
