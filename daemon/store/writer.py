"""One group of store operations: files first, then their folders, then one transaction, then the promises.

The disk is waited for three times a group, however many samples are in it.
"""

from __future__ import annotations

import itertools
import json
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from dance_ondevice.daemon.store.operations import AddLabel, AddSample, Call, Operation, Outcome, Remove
from dance_ondevice.daemon.store.quota import Room
from dance_ondevice.daemon.store.samples import (
    LabelProtected,
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
    storage_error,
)
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.system.workers import Workers
from dance_ondevice.policies.samples.splits import MACHINES

log = logging.getLogger(__name__)

_KNOWN = (
    "SELECT id, path, width, height, native_width, native_height, origin, label_path, label_source "
    "FROM samples"
)
#: The columns that are attributes of a new sample under the same name, then those made from it.
_GIVEN = (
    *("id", "camera", "seq", "captured_at", "received_at", "format", "width", "height"),
    *("native_width", "native_height", "score", "quantile", "scale", "weight", "reason", "signature"),
)
_MADE = ("path", "bytes", "digest", "received_digest", "label_path", "label_source", "classes")
_COLUMNS = (*_GIVEN, *_MADE)
_INSERT = f"INSERT INTO samples ({', '.join(_COLUMNS)}) VALUES ({', '.join(':' + c for c in _COLUMNS)})"


@dataclass(frozen=True, kw_only=True)
class _Known:
    """A sample that is stored, or will be once this group is done; ``native`` is None where unknown.

    ``label_source`` is that of the label there is, or will be.
    """

    id: str
    image: Path
    stored: tuple[int, int]
    native: tuple[int, int] | None
    label_bytes: int | None
    label_source: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Step:
    """An operation whose ``files`` are written; ``image`` is a new one, undone if its row does not come."""

    future: Future[Any]
    commit: Callable[[Database], Any]
    files: tuple[Path, ...] = ()
    image: Path | None = None


class GroupWriter:
    """Carries out groups of operations, on the thread that owns the database connection."""

    def __init__(self, db: Database, paths: StatePaths, room: Room, flushers: Workers) -> None:
        self._db = db
        self._paths = paths
        self._room = room
        self._files = SampleFiles(paths, flushers)
        # Of the group at hand: samples by id, and ids by what makes a resent frame recognisable.
        self._known: dict[str, _Known] = {}
        self._frames: dict[tuple[str, int, str], str] = {}

    def write(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Carry out operations in their order; nothing is resolved yet, but all of it is durable.

        Raises:
            sqlite3.DatabaseError: The index is corrupt.
        """
        outcomes: list[Outcome] = []
        for removal, run in itertools.groupby(operations, lambda operation: isinstance(operation, Remove)):
            rest = list(run)
            if removal:
                outcomes += [self._remove(operation) for operation in rest if isinstance(operation, Remove)]
                continue
            while rest:
                done, rest = self._write_part(rest)
                outcomes += done
        return outcomes

    def _write_part(self, operations: Sequence[Operation]) -> tuple[list[Outcome], list[Operation]]:
        """Carry out operations up to one that needs the room of those before it; returns the rest as well."""
        outcomes: list[Outcome] = []
        steps: list[_Step] = []
        rest: list[Operation] = []
        try:
            for number, operation in enumerate(operations):
                try:
                    steps.append(self._stage(operation))
                except StoreFull as error:
                    if steps:  # once these are rows they can be evicted
                        rest = list(operations[number:])
                        break
                    outcomes.append(Outcome(future=operation.future, error=error))
                except StoreError as error:
                    outcomes.append(Outcome(future=operation.future, error=error))
                except (sqlite3.Error, OverflowError, UnicodeError) as error:
                    # The last two: values that SQLite cannot hold.
                    if _is_corrupt(error):
                        raise
                    outcomes.append(Outcome(future=operation.future, error=_index_error(error)))
            steps = self._sync(steps, outcomes)
            done = self._commit(steps)
            self._room.settle(changed=any(outcome.error is None for outcome in done))
        finally:
            self._files.abandon()
            self._known.clear()
            self._frames.clear()
        return outcomes + done, rest

    def _stage(self, operation: Operation) -> _Step:
        """Write an operation's files."""
        if isinstance(operation, AddSample):
            return self._stage_sample(operation)
        if isinstance(operation, AddLabel):
            known = self._find(operation.sample_id)
            if known is None:
                raise UnknownSample(
                    f"there is no sample {operation.sample_id!r}: it was not kept, or has been evicted since"
                )
            commit = self._stage_label(
                known, operation.png, operation.classes, operation.source, operation.confidence
            )
            return _Step(future=operation.future, commit=commit, files=(label_path(known.image),))
        assert isinstance(operation, Call)
        return _Step(future=operation.future, commit=operation.run)

    def _stage_sample(self, operation: AddSample) -> _Step:
        sample = operation.sample
        image = image_path(self._paths, sample)
        received = sample.received_digest or digest(sample.data)
        twin = self._find_twin(sample, received)
        if twin is not None:
            return self._stage_duplicate(operation, twin)
        stored, native = (sample.width, sample.height), (sample.native_width, sample.native_height)
        if sample.label is not None:
            native_size(sample.label, stored, native)
        self._room.claim(sample.size, self._known)
        try:
            # The image first: what a crash leaves is then a sample without a label, never a label alone.
            self._files.stage(image, sample.data)
            if sample.label is not None:
                self._files.stage(label_path(image), sample.label)
        except StoreError:
            self._files.unstage(image)
            self._room.unclaim(sample.size)
            raise
        self._frames[sample.camera, sample.seq, received] = sample.id
        self._known[sample.id] = _Known(
            id=sample.id,
            image=image,
            stored=stored,
            native=native,
            label_bytes=None if sample.label is None else len(sample.label),
            label_source=sample.label_source,
        )
        row = self._row(sample, image, received)

        def commit(db: Database) -> Stored:
            db.execute(_INSERT, row)
            return Stored(id=sample.id, duplicate=False, score=sample.score, scale=sample.scale)

        files = (image,) if sample.label is None else (image, label_path(image))
        return _Step(future=operation.future, commit=commit, files=files, image=image)

    def _stage_duplicate(self, operation: AddSample, twin: _Known) -> _Step:
        sample = operation.sample
        self._known[twin.id] = twin  # it is promised again, so it does not go to make room within this group
        relabel: Callable[[Database], None] | None = None
        if sample.label is not None and (twin.label_bytes is None or twin.label_source in MACHINES):
            source = sample.label_source or "sender"
            relabel = self._stage_label(twin, sample.label, sample.classes, source)

        def commit(db: Database) -> Stored:
            if relabel is not None:
                relabel(db)
            found = db.execute("SELECT score, scale FROM samples WHERE id = ?", [twin.id]).fetchone()
            if found is None:
                raise StoreError(f"the first copy of {twin.id} could not be stored; send it again")
            return Stored(id=twin.id, duplicate=True, score=found[0], scale=found[1])

        files = () if relabel is None else (label_path(twin.image),)
        return _Step(future=operation.future, commit=commit, files=files)

    def _stage_label(
        self,
        known: _Known,
        png: bytes,
        classes: Sequence[int] | None,
        source: str,
        confidence: float | None = None,
    ) -> Callable[[Database], None]:
        if source in MACHINES and known.label_bytes is not None and known.label_source not in MACHINES:
            raise LabelProtected(
                f"sample {known.id} has a label that no model made ({known.label_source}): it stays"
            )
        native = native_size(png, known.stored, known.native)
        file = label_path(known.image)
        growth = len(png) - (known.label_bytes or 0)
        self._known[known.id] = known
        self._room.claim(growth, self._known)
        try:
            self._files.stage(file, png)
        except StoreError:
            self._room.unclaim(growth)
            raise
        self._known[known.id] = replace(known, native=native, label_bytes=len(png), label_source=source)
        values: dict[str, object] = {
            "id": known.id,
            "file": self._relative(file),
            "source": source,
            "classes": _classes(classes),
            "growth": growth,
            "confidence": confidence,
        }
        changes = (
            "label_path = :file, label_source = :source, classes = :classes, bytes = bytes + :growth, "
            "label_confidence = :confidence, unreadable = NULL"
        )
        if known.native is None:
            values |= {"width": native[0], "height": native[1], "scale": known.stored[0] / native[0]}
            changes += ", native_width = :width, native_height = :height, scale = :scale"

        def commit(db: Database) -> None:
            if db.execute(f"UPDATE samples SET {changes} WHERE id = :id", values).rowcount == 0:
                raise UnknownSample(f"sample {known.id} could not be stored, and so neither its label")

        return commit

    def _sync(self, steps: Sequence[_Step], outcomes: list[Outcome]) -> list[_Step]:
        """Flush files and folders; of what fails, and of what lies in a folder that does, nothing stays."""
        failed = self._files.place()
        folders = self._files.sync()
        if folders:
            log.error("folders not flushed folders=%s", " ".join(str(folder) for folder in folders))
        failed |= folders
        if not failed:
            return list(steps)
        sound: list[_Step] = []
        for step in steps:
            broken = [p for file in step.files for p in (file, *file.parents) if p in failed]
            if not broken:
                sound.append(step)
                continue
            if step.image is not None:
                delete_files(step.image)
            place = broken[0] / "*" if broken[0] in folders else broken[0]
            outcomes.append(Outcome(future=step.future, error=storage_error(failed[broken[0]], place)))
        return sound

    def _commit(self, steps: Sequence[_Step]) -> list[Outcome]:
        """Write the rows of a group in one transaction."""
        done: list[Outcome] = []
        rejected: list[Path] = []
        try:
            with self._db.atomic():
                for step in steps:
                    try:
                        with self._db.atomic():
                            value = step.commit(self._db)
                    except (
                        Exception
                    ) as error:  # one operation's failure, whatever it is, is its caller's alone
                        if not self._db.conn.in_transaction or _is_corrupt(error):
                            raise
                        if step.image is not None:
                            rejected.append(step.image)
                            error = _index_error(error)
                        done.append(Outcome(future=step.future, error=error))
                    else:
                        done.append(Outcome(future=step.future, value=value))
        except sqlite3.Error as error:
            if _is_corrupt(error):
                raise
            # Whether the commit took is not known: files without a row are adopted at the next start, a row
            # without its file would be a broken promise. So the files stay.
            log.error("group not committed operations=%d error=%s", len(steps), error)
            return [Outcome(future=step.future, error=_index_error(error)) for step in steps]
        for image in rejected:
            delete_files(image)
        return done

    def _remove(self, operation: Remove) -> Outcome:
        try:
            if operation.allowed is not None:
                operation.allowed(self._db)
            count = delete_samples(self._db, self._paths, operation.ids)
        except StoreError as error:
            return Outcome(future=operation.future, error=error)
        except sqlite3.Error as error:
            if _is_corrupt(error):
                raise
            return Outcome(future=operation.future, error=_index_error(error))
        self._room.settle(changed=True)
        return Outcome(future=operation.future, value=count)

    def _find(self, identifier: str) -> _Known | None:
        if identifier in self._known:
            return self._known[identifier]
        return self._read(f"{_KNOWN} WHERE id = ?", [identifier])

    def _find_twin(self, sample: NewSample, received: str) -> _Known | None:
        """The sample that an earlier sending of this frame made, if there is one."""
        frame = (sample.camera, sample.seq, received)
        identifier = sample.id if sample.id in self._known else self._frames.get(frame)
        if identifier is not None:
            return self._known[identifier]
        return self._read(
            f"{_KNOWN} WHERE id = ? OR (camera = ? AND seq = ? AND received_digest = ?) "
            "ORDER BY id = ? DESC LIMIT 1",
            [sample.id, *frame, sample.id],
        )

    def _read(self, query: str, parameters: Sequence[object]) -> _Known | None:
        row = self._db.execute(query, parameters).fetchone()
        if row is None:
            return None
        identifier, path, width, height, native_width, native_height, origin, label, source = row
        if identifier in self._known:
            return self._known[identifier]
        image = self._paths.root / path
        label_bytes: int | None = None
        if label is not None:
            label_bytes = _size(self._paths.root / label)
        unknown_native = origin == "rebuilt" and label is None
        return _Known(
            id=identifier,
            image=image,
            stored=(width, height),
            native=None if unknown_native else (native_width, native_height),
            label_bytes=label_bytes,
            label_source=source,
        )

    def _row(self, sample: NewSample, image: Path, received: str) -> dict[str, object]:
        row: dict[str, object] = {name: getattr(sample, name) for name in _GIVEN}
        label = None if sample.label is None else self._relative(label_path(image))
        return row | {
            "path": self._relative(image),
            "bytes": sample.size,
            "digest": received if sample.received_digest is None else digest(sample.data),
            "received_digest": received,
            "label_path": label,
            "label_source": sample.label_source if label else None,
            "classes": _classes(sample.classes) if label else None,
        }

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._paths.root))


def _classes(classes: Sequence[int] | None) -> str | None:
    return None if classes is None else json.dumps(sorted(set(classes)))


def _is_corrupt(error: BaseException) -> bool:
    # SQLITE_CORRUPT and SQLITE_NOTADB are the ones that Python raises as the base class itself.
    return type(error) is sqlite3.DatabaseError


def _index_error(error: BaseException) -> StoreError:
    if isinstance(error, StoreError):
        return error
    if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
        return StoreFull("the disk is full: the index could not be written; free some space")
    return StoreError(f"the index could not be written: {error}")


def _size(file: Path) -> int:
    """Bytes of a file, 0 where there is none.

    Raises:
        StoreError: The disk does not tell: one sample then cannot be served, the store can.
    """
    try:
        return file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise StoreError(f"{file} could not be looked up: {error}; check the disk") from error
