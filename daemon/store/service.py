"""The sample store: one thread that writes files and the SQLite index, durably and in groups."""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from sqlite_utils import Database

from dance_ondevice.daemon.store.operations import (
    AddLabel,
    AddSample,
    Call,
    Operation,
    Remove,
    RestoreLabel,
    trouble_after,
)
from dance_ondevice.daemon.store.quota import Quota, free_bytes
from dance_ondevice.daemon.store.samples import (
    NewSample,
    Stored,
    StoreError,
)
from dance_ondevice.daemon.store.schema import migrate
from dance_ondevice.daemon.store.writer import GroupWriter
from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.system.workers import Workers
from dance_ondevice.files import sync_directory

__all__ = ["Store", "StoreSnapshot", "open_reader", "open_writer"]

log = logging.getLogger(__name__)
T = TypeVar("T")

#: A group ends at this many operations or image bytes, so that no answer waits for a long queue.
GROUP_OPERATIONS = 64
GROUP_BYTES = 64 << 20
#: Number of a group's files that are flushed at once; a disk handles many flush requests as one.
_FLUSHERS = 16
_BUSY_SECONDS = 10.0
_IDLE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class StoreSnapshot:
    """The totals of the store.

    Attributes:
        samples_labelled: Samples with a label.
        samples_unlabelled: Samples without one.
        labels_stored: Labels stored since the start, new ones or in place of others. At the quota each may
            push out another labelled sample, so that their number alone does not tell that any came.
        labels_undone: Labels of imports that were taken back since the start.
        bytes: Images and labels together.
        free_bytes: Free on the file system.
        unreadable: Samples whose image or label cannot be read.
        first_unreadable: Why the first of them cannot; empty without one.
        trouble: Why frames are not stored, since the last one that was; empty where they are.
    """

    samples_labelled: int = 0
    samples_unlabelled: int = 0
    labels_stored: int = 0
    labels_undone: int = 0
    bytes: int = 0
    free_bytes: int = 0
    unreadable: int = 0
    first_unreadable: str = ""
    trouble: str = ""

    @property
    def labels(self) -> tuple[int, int]:
        """Changes since the start, and labelled samples: other figures once any label has changed."""
        return self.labels_stored + self.labels_undone, self.samples_labelled

    @property
    def labels_come(self) -> int:
        """Labels that came since the start and were not taken back."""
        return self.labels_stored - self.labels_undone


def open_writer(paths: StatePaths) -> Database:
    """Open the index for writing, in WAL mode and fully synchronous; for the calling thread alone."""
    connection = sqlite3.connect(paths.database, timeout=_BUSY_SECONDS)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # Else the pages that a statement changes are copied to a temporary file, for the case that it fails.
        connection.execute("PRAGMA temp_store = MEMORY")
        return Database(connection, execute_plugins=False)
    except BaseException:
        connection.close()
        raise


def connect_read_only(database: Path, timeout: float = _BUSY_SECONDS) -> sqlite3.Connection:
    """Connect to an index; for the calling thread alone, which closes the connection.

    SQLite makes files beside a database with a write-ahead log, even to read it: in a folder that this user
    may not write to, or on a read-only disk, it cannot. Where no daemon has left such files, all content is
    in the database itself and nothing writes to it.

    Args:
        database: The file.
        timeout: Seconds to wait for a lock.

    Raises:
        sqlite3.Error: It cannot be opened or read.
    """
    uri = f"file:{quote(os.fsencode(database.absolute()))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=timeout)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return connection
    except sqlite3.OperationalError as error:
        connection.close()
        beside = any(text in str(error) for text in ("unable to open", "readonly"))
        if not beside or not database.is_file() or _log_of(database):
            raise
    except sqlite3.DatabaseError:  # damaged: told by the first look at its content
        return connection
    return sqlite3.connect(f"{uri}&immutable=1", uri=True, timeout=timeout)


def _log_of(database: Path) -> int:
    """Bytes of the write-ahead log beside a database."""
    try:
        return database.with_name(f"{database.name}-wal").stat().st_size
    except FileNotFoundError:
        return 0


def open_reader(paths: StatePaths) -> Database:
    """Open the index for reading; for the calling thread alone, which closes it.

    Raises:
        StoreError: There is no index, or it cannot be opened.
    """
    try:
        connection = connect_read_only(paths.database)
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"{paths.database} cannot be opened ({error}): has the daemon run with this state directory, "
            "and may this user read it?"
        ) from error
    return Database(connection, execute_plugins=False)


class Store(Service):
    """Owns the only SQLite write connection, and every file under ``samples``.

    Each method returns at once with a future, resolved once the effect is durable: file flushed and renamed,
    folder flushed, row committed. Callbacks of the futures run on the store's thread and must be quick.
    """

    # Time for a group of large frames on a slow SD card, or for an eviction among many samples.
    max_silence = 60.0

    def __init__(
        self,
        paths: StatePaths,
        *,
        quota_bytes: int,
        min_free_bytes: int,
        seed: int = 0,
        free_bytes: Callable[[Path], int] = free_bytes,
        on_written: Callable[[int, float], None] = lambda _frames, _seconds: None,
    ) -> None:
        """Prepare a store; ``start`` opens it.

        Args:
            paths: The state directory, whose lock the caller holds.
            quota_bytes: The most bytes of all samples, labels included.
            min_free_bytes: Bytes that must stay free on the file system.
            seed: Seed of the retention policy.
            free_bytes: Returns the free bytes on the file system of a path.
            on_written: Called on the store's thread after a group with its number of frames, 1 or more, and
                the thread's CPU seconds.
        """
        super().__init__("store")
        self._paths = paths
        self._quota_bytes = quota_bytes
        self._min_free_bytes = min_free_bytes
        self._seed = seed
        self._free_bytes = free_bytes
        self._on_written = on_written
        self._after_groups: list[Callable[[], None]] = []
        self._queue: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._intake = threading.Lock()
        self._closed = False
        self._snapshot = StoreSnapshot()
        self._db: Database | None = None
        self._quota: Quota
        self._writer: GroupWriter
        self._trouble = ""
        self._labels_stored = self._labels_undone = 0
        self.workers = (Workers("store-flush", _FLUSHERS),)

    def add_sample(self, sample: NewSample) -> Future[Stored]:
        """Store a frame; if it is stored already without a label, add its label to that sample.

        The future raises ``StoreFull`` (it exceeds the quota or the free space, and nothing may be evicted),
        ``LabelMismatch``, or ``StoreError`` for anything else; then nothing of the sample is left behind.
        """
        future: Future[Stored] = Future()
        self._put(AddSample(sample, future))
        return future

    def after_groups(self, call: Callable[[], None]) -> None:
        """Have a function called, on the store's thread, after the futures of each group are resolved."""
        self._after_groups.append(call)

    def add_label(
        self,
        sample_id: str,
        png: bytes,
        classes: Sequence[int],
        source: str,
        *,
        confidence: float | None = None,
        import_id: str = "",
        replaces: str | None = None,
    ) -> Future[None]:
        """Label a stored frame, replacing an earlier label atomically.

        Args:
            sample_id: Id of the sample.
            png: 8-bit single-channel PNG of class ids, of the frame's native size.
            classes: The class ids in it.
            source: The label's source. A source among ``MACHINES`` replaces only labels of such sources.
            confidence: Mean confidence of a label that a model made, 0 to 1.
            import_id: Name of the import that brings it; the earlier label is then kept for
                ``restore_label``, and those of earlier imports are deleted.
            replaces: Digest of the label that the author has seen, "" for none: another label that no model
                made is then not replaced. None to replace any.

        The future raises ``LabelChanged`` where there is such another label, ``UnknownSample``,
        ``LabelMismatch``, ``LabelEmpty``, ``LabelProtected``, ``StoreFull`` or ``StoreError``.
        """
        future: Future[None] = Future()
        self._put(AddLabel(sample_id, png, classes, source, future, confidence, import_id, replaces))
        return future

    def restore_label(self, sample_id: str) -> Future[bool]:
        """Restore the label that a sample had before the last import; resolves to false where it had none.

        The future raises ``UnknownSample`` where that import did not label it, ``LabelChanged`` where its
        label was replaced since, ``StoreFull`` or ``StoreError``.
        """
        future: Future[bool] = Future()
        self._put(RestoreLabel(sample_id, future))
        return future

    def remove_samples(
        self, ids: Sequence[str], *, allowed: Callable[[Database], None] | None = None
    ) -> Future[int]:
        """Remove samples, rows before files; the future resolves to the number of ids that existed.

        Args:
            ids: Ids of samples.
            allowed: Called on the store's thread right before the removal; a ``StoreError`` from it keeps all
                the samples and is raised by the future.
        """
        future: Future[int] = Future()
        self._put(Remove(tuple(ids), future, allowed))
        return future

    def submit(self, run: Callable[[Database], T]) -> Future[T]:
        """Run a function on the store's thread, inside the group's transaction.

        An exception undoes only the function's own changes and is raised by the future. The function must be
        quick and must not commit, roll back or remove samples (``remove_samples`` does that).
        """
        future: Future[T] = Future()
        self._put(Call(run, future))
        return future

    def set_limits(self, *, quota_bytes: int, min_free_bytes: int) -> Future[None]:
        """Use other limits from now on; samples beyond the quota are removed in steps, between other work."""
        self._quota_bytes = quota_bytes
        self._min_free_bytes = min_free_bytes

        def change(_: Database) -> None:
            self._quota.set_limits(quota_bytes=quota_bytes, min_free_bytes=min_free_bytes)

        return self.submit(change)

    @property
    def quota_bytes(self) -> int:
        """The most bytes of all samples, labels included."""
        return self._quota_bytes

    @property
    def min_free_bytes(self) -> int:
        """Bytes that must stay free on the file system."""
        return self._min_free_bytes

    def snapshot(self) -> StoreSnapshot:
        """The totals after the last group, from memory."""
        return self._snapshot

    def wake(self) -> None:
        """End the wait for an operation."""
        self._queue.put(None)

    def setup(self) -> None:
        """Open the index, creating or migrating it."""
        self._paths.samples.mkdir(parents=True, exist_ok=True)
        self._db = open_writer(self._paths)
        migrate(self._db)
        sync_directory(self._paths.root)
        self._quota = Quota(
            self._db,
            self._paths,
            quota_bytes=self._quota_bytes,
            min_free_bytes=self._min_free_bytes,
            seed=self._seed,
            free_bytes=self._free_bytes,
        )
        self._writer = GroupWriter(self._db, self._paths, self._quota, self.workers[0])
        self._publish()

    def run(self) -> None:
        """Write group after group; once stopped, write the queued operations and accept no more."""
        while not self.stopping.is_set():
            self._write(self._take(0.0 if self._quota.in_debt else _IDLE_SECONDS))
            self._pay_off()
        self._close_intake()
        while group := self._take(0.0):
            self._write(group)

    def teardown(self) -> None:
        """Close the index; operations that were not written fail."""
        self._close_intake()
        while group := self._take(0.0):
            for operation in group:
                operation.future.set_exception(StoreError("the store has stopped"))
        for workers in self.workers:
            workers.close()
        if self._db is not None:
            self._db.close()

    def _put(self, operation: Operation) -> None:
        with self._intake:
            if not self._closed:
                self._queue.put(operation)
                return
        operation.future.set_exception(StoreError("the store has stopped"))

    def _close_intake(self) -> None:
        with self._intake:
            self._closed = True

    def _take(self, timeout: float) -> list[Operation]:
        """All queued operations, within a group's bounds; waits only for the first one."""
        group: list[Operation] = []
        size = 0
        while len(group) < GROUP_OPERATIONS and size < GROUP_BYTES:
            try:
                operation = self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            timeout = 0.0
            if operation is not None and operation.future.set_running_or_notify_cancel():
                group.append(operation)
                size += operation.sample.size if isinstance(operation, AddSample) else 0
        return group

    def _write(self, group: Sequence[Operation]) -> None:
        started = time.thread_time()
        try:
            outcomes = self._writer.write(group)
            frames = [operation.future for operation in group if isinstance(operation, AddSample)]
            found = {outcome.future: outcome for outcome in outcomes}
            for future in frames:  # as they came: outcomes begin with those that failed early
                self._trouble = trouble_after(self._trouble, found[future])
            self._labels_stored += sum(outcome.labels > 0 for outcome in outcomes)
            self._labels_undone += sum(outcome.labels < 0 for outcome in outcomes)
            self._publish()
        except BaseException as error:
            # The service fails with this error, and its callers must not wait forever.
            for operation in group:
                operation.future.set_exception(StoreError(f"the store has failed: {error}"))
            raise
        for outcome in outcomes:
            outcome.resolve()
        for call in self._after_groups:
            call()
        if frames:
            self._on_written(len(frames), time.thread_time() - started)
        self.beat()

    def _pay_off(self) -> None:
        """Remove a piece of what is stored beyond the quota."""
        paid = True
        try:
            paid = self._quota.pay_off()
        except sqlite3.OperationalError as error:  # a full or failing disk: the next write tells its sender
            log.warning("not evicted error=%s", error)
        if paid:
            self._publish()
        self.beat()

    def _publish(self) -> None:
        labelled, unlabelled, size = self._quota.totals()
        unreadable, first = self._quota.unreadable()
        self._snapshot = StoreSnapshot(
            samples_labelled=labelled,
            samples_unlabelled=unlabelled,
            labels_stored=self._labels_stored,
            labels_undone=self._labels_undone,
            bytes=size,
            free_bytes=self._quota.free(),
            unreadable=unreadable,
            first_unreadable=first,
            trouble=self._trouble,
        )
