"""Writes one group of store operations: files, then their folders, then one transaction, then the answers.

Each group waits for the disk three times, however many samples it holds.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from dance_ondevice.daemon.store import label_undo
from dance_ondevice.daemon.store.labelled import make_new
from dance_ondevice.daemon.store.operations import (
    AddLabel,
    AddSample,
    Call,
    Operation,
    Outcome,
    Remove,
    RestoreLabel,
    index_error,
    is_corrupt,
)
from dance_ondevice.daemon.store.quota import Quota
from dance_ondevice.daemon.store.rows import INSERT, KNOWN, Known, classes_json, new_row, read_known
from dance_ondevice.daemon.store.samples import (
    LabelChanged,
    LabelEmpty,
    LabelProtected,
    NewSample,
    OtherPicture,
    SampleFiles,
    Stored,
    StoreError,
    StoreFull,
    UnknownSample,
    delete_files,
    delete_samples,
    digest,
    image_digest,
    image_path,
    label_path,
    native_size,
    storage_error,
)
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.system.workers import Workers
from dance_ondevice.policies.samples.splits import MACHINES

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """An operation whose ``files`` are written.

    ``image`` is a new image, deleted if its row is not written; ``stale`` is deleted once no row names it.
    ``row`` is what ``commit`` inserts, if it does nothing else; it then returns ``stored``. For ``labels``
    see ``Outcome``.
    """

    future: Future[Any]
    commit: Callable[[Database], Any]
    files: tuple[Path, ...] = ()
    image: Path | None = None
    stale: Path | None = None
    row: tuple[object, ...] | None = None
    stored: Stored | None = None
    labels: int = 0


class GroupWriter:
    """Carries out groups of operations, on the thread that owns the database connection."""

    def __init__(self, db: Database, paths: StatePaths, quota: Quota, flushers: Workers) -> None:
        self._db = db
        self._paths = paths
        self._quota = quota
        self._files = SampleFiles(paths, flushers)
        # Of the present group: samples by id, and ids by what identifies a resent frame.
        self._known: dict[str, Known] = {}
        self._frames: dict[tuple[str, int, str], str] = {}

    def write(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Carry out operations in order, durably; the caller resolves the futures afterwards.

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
        """Carry out operations up to one that needs the space of earlier ones; returns the rest as well."""
        outcomes: list[Outcome] = []
        steps: list[_Step] = []
        rest: list[Operation] = []
        try:
            for number, operation in enumerate(operations):
                try:
                    steps.append(self._stage(operation))
                except StoreFull as error:
                    if steps:  # once these have rows they can be evicted
                        rest = list(operations[number:])
                        break
                    outcomes.append(Outcome(future=operation.future, error=error))
                except StoreError as error:
                    outcomes.append(Outcome(future=operation.future, error=error))
                except (sqlite3.Error, OverflowError, UnicodeError) as error:
                    # The last two are raised for values that SQLite cannot hold.
                    if is_corrupt(error):
                        raise
                    outcomes.append(Outcome(future=operation.future, error=index_error(error)))
            steps = self._sync(steps, outcomes)
            done = self._commit(steps)
            self._quota.settle(changed=any(outcome.error is None for outcome in done))
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
            commit = self._stage_label(known, operation)
            files = (label_path(known.image),)
            return _Step(future=operation.future, commit=commit, files=files, labels=1)
        if isinstance(operation, RestoreLabel):
            return self._stage_restored(operation)
        assert isinstance(operation, Call)
        return _Step(future=operation.future, commit=operation.run)

    def _stage_sample(self, operation: AddSample) -> _Step:
        sample = operation.sample
        image = image_path(self._paths, sample)
        received = sample.received_digest or image_digest(sample.data)
        twin = self._find_twin(sample, received)
        if twin is not None:
            return self._stage_duplicate(operation, twin, received)
        stored, native = (sample.width, sample.height), (sample.native_width, sample.native_height)
        if sample.label is not None:
            native_size(sample.label, stored, native)
        self._quota.claim(sample.size, self._known)
        try:
            # The image first: a crash then leaves a sample without a label, never a label alone.
            self._files.stage(image, sample.data)
            if sample.label is not None:
                self._files.stage(label_path(image), sample.label)
        except StoreError:
            self._files.unstage(image)
            self._quota.unclaim(sample.size)
            raise
        self._frames[sample.camera, sample.seq, received] = sample.id
        self._known[sample.id] = Known(
            id=sample.id,
            image=image,
            stored=stored,
            native=native,
            label_bytes=None if sample.label is None else len(sample.label),
            label_source=sample.label_source,
        )
        row = new_row(sample, image, received, self._paths.root)
        answer = Stored(id=sample.id, duplicate=False, score=sample.score, scale=sample.scale)

        def commit(db: Database) -> Stored:
            db.execute(INSERT, row)
            return answer

        labelled = sample.label is not None
        return _Step(
            future=operation.future,
            commit=commit,
            files=(image, label_path(image)) if labelled else (image,),
            image=image,
            row=row,
            stored=answer,
            labels=int(labelled),
        )

    def _stage_duplicate(self, operation: AddSample, twin: Known, received: str) -> _Step:
        sample = operation.sample
        self._known[twin.id] = twin  # it is confirmed again, so this group must not evict it
        if not self._is_same_picture(sample, twin, received):
            raise OtherPicture(sample.seq, sample.captured_at)
        relabel: Callable[[Database], None] | None = None
        # A label without a class is worthless: it neither is added later nor replaces a model's.
        if (
            sample.label is not None
            and sample.classes
            and (twin.label_bytes is None or twin.label_source in MACHINES)
        ):
            label = AddLabel(
                twin.id, sample.label, sample.classes, sample.label_source or "sender", operation.future
            )
            relabel = self._stage_label(twin, label)

        def commit(db: Database) -> Stored:
            if relabel is not None:
                relabel(db)
            found = db.execute("SELECT score, scale FROM samples WHERE id = ?", [twin.id]).fetchone()
            if found is None:
                raise StoreError(f"the first copy of {twin.id} could not be stored; send it again")
            return Stored(id=twin.id, duplicate=True, score=found[0], scale=found[1])

        files = () if relabel is None else (label_path(twin.image),)
        return _Step(future=operation.future, commit=commit, files=files, labels=int(relabel is not None))

    def _is_same_picture(self, sample: NewSample, twin: Known, received: str) -> bool:
        if self._frames.get((sample.camera, sample.seq, received)) == twin.id:
            return True
        query = "SELECT received_digest, origin FROM samples WHERE id = ?"
        found = self._db.execute(query, [twin.id]).fetchone()
        if found is None:
            return False
        known, origin = found
        # A row read back from its file has the digest of the stored image, which may have been made smaller
        # or encoded anew. Versions before 0.2.0 took another, shorter digest.
        return origin == "rebuilt" or known == received or len(known) != len(received)

    def _stage_label(self, known: Known, label: AddLabel) -> Callable[[Database], None]:
        png, source = label.png, label.source
        if not label.classes:
            raise LabelEmpty(
                f"the label for {known.id} holds no class in any pixel, only 255 (ignore): it would take the "
                "place of a real one, so it is not kept"
            )
        if source in MACHINES and known.label_bytes is not None and known.label_source not in MACHINES:
            raise LabelProtected(
                f"sample {known.id} has a label that no model made ({known.label_source}): it stays"
            )
        native = native_size(png, known.stored, known.native)
        file = label_path(known.image)
        by_people = known.label_bytes is not None and known.label_source not in MACHINES
        if label.replaces is not None and by_people:
            present = self._files.current(file)
            if present is None or digest(present) != label.replaces:
                raise LabelChanged(f"sample {known.id} was labelled by somebody else in the meantime")
        growth = len(png) - (known.label_bytes or 0)
        before = None if known.label_bytes is None else self._files.current(file)
        keep: Callable[[Database], None] | None = None
        if label.import_id:
            keep = label_undo.keeper(known.id, label.import_id, before, png)
        self._stage_file(known, file, png, growth)
        self._known[known.id] = replace(known, native=native, label_bytes=len(png), label_source=source)
        values: dict[str, object] = {
            "id": known.id,
            "file": self._relative(file),
            "source": source,
            "classes": classes_json(label.classes),
            "growth": growth,
            "confidence": label.confidence,
        }
        changes = (
            "label_path = :file, label_source = :source, classes = :classes, bytes = bytes + :growth, "
            "label_confidence = :confidence, unreadable = NULL"
        )
        if known.native is None:
            values |= {"width": native[0], "height": native[1], "scale": known.stored[0] / native[0]}
            changes += ", native_width = :width, native_height = :height, scale = :scale"

        def commit(db: Database) -> None:
            if keep is not None:
                keep(db)
            if db.execute(f"UPDATE samples SET {changes} WHERE id = :id", values).rowcount == 0:
                raise UnknownSample(f"sample {known.id} could not be stored, nor could its label")
            if before != png:  # what past rounds learnt from was another label
                make_new(db, known.id)

        return commit

    def _stage_file(self, known: Known, file: Path, png: bytes, growth: int) -> None:
        """Write a label's file, within the quota."""
        self._known[known.id] = known  # it must not be evicted for its own label
        self._quota.claim(growth, self._known)
        try:
            self._files.stage(file, png)
        except StoreError:
            self._quota.unclaim(growth)
            raise

    def _stage_restored(self, operation: RestoreLabel) -> _Step:
        """Restore the label before the last import, or remove that import's label where there was none."""
        known, before = self._find(operation.sample_id), label_undo.find(self._db, operation.sample_id)
        if known is None or before is None:
            raise UnknownSample(f"the last import labelled no sample {operation.sample_id!r}, or it has gone")
        file = label_path(known.image)
        current = None if known.label_bytes is None else self._files.current(file)
        if current is None or digest(current) != before.imported:
            raise LabelChanged(f"sample {known.id} has got another label since the import: it stays")
        growth = len(before.png or b"") - len(current)
        if before.png is not None:
            self._stage_file(known, file, before.png, growth)
        size = None if before.png is None else len(before.png)
        self._known[known.id] = replace(known, label_bytes=size, label_source=before.source)
        path = None if before.png is None else self._relative(file)
        return _Step(
            future=operation.future,
            commit=label_undo.restorer(known.id, before, path, growth),
            files=() if before.png is None else (file,),
            stale=file if before.png is None else None,
            labels=-1,
        )

    def _sync(self, steps: Sequence[_Step], outcomes: list[Outcome]) -> list[_Step]:
        """Flush files and folders; removes the files that failed, and all in a folder that failed."""
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
        stale: list[Path] = []
        try:
            with self._db.atomic():
                for step in self._insert(steps, done):
                    try:
                        with self._db.atomic():
                            value = step.commit(self._db)
                    except Exception as error:  # any failure of one operation concerns its caller alone
                        if not self._db.conn.in_transaction or is_corrupt(error):
                            raise
                        if step.image is not None:
                            rejected.append(step.image)
                            error = index_error(error)
                        done.append(Outcome(future=step.future, error=error))
                    else:
                        done.append(Outcome(future=step.future, value=value, labels=step.labels))
                        stale += [step.stale] if step.stale is not None else []
        except sqlite3.Error as error:
            if is_corrupt(error):
                raise
            # It is unknown whether the commit succeeded. Files without a row are adopted at the next start,
            # while a row without its file would break the promise of an answer, so the files stay.
            log.error("group not committed operations=%d error=%s", len(steps), error)
            return [Outcome(future=step.future, error=index_error(error)) for step in steps]
        for image in rejected:
            delete_files(image)
        for label in stale:
            with contextlib.suppress(OSError):  # it is found and attached again at the next start
                label.unlink()
        return done

    def _insert(self, steps: Sequence[_Step], done: list[Outcome]) -> Iterator[_Step]:
        """Insert the rows of consecutive new samples at once; gives what must be done one by one."""
        for plain, found in itertools.groupby(steps, lambda step: step.row is not None):
            run = list(found)
            if not plain or len(run) == 1:
                yield from run
                continue
            try:
                with self._db.atomic():
                    self._db.conn.executemany(INSERT, [step.row for step in run if step.row is not None])
            except Exception as error:  # one by one, it shows which of them it was
                if not self._db.conn.in_transaction or is_corrupt(error):
                    raise
                yield from run
            else:
                done += [Outcome(future=step.future, value=step.stored, labels=step.labels) for step in run]

    def _remove(self, operation: Remove) -> Outcome:
        try:
            if operation.allowed is not None:
                operation.allowed(self._db)
            count = delete_samples(self._db, self._paths, operation.ids)
        except StoreError as error:
            return Outcome(future=operation.future, error=error)
        except sqlite3.Error as error:
            if is_corrupt(error):
                raise
            return Outcome(future=operation.future, error=index_error(error))
        self._quota.settle(changed=True)
        return Outcome(future=operation.future, value=count)

    def _find(self, identifier: str) -> Known | None:
        if identifier in self._known:
            return self._known[identifier]
        return self._read(f"{KNOWN} WHERE id = ?", [identifier])

    def _find_twin(self, sample: NewSample, received: str) -> Known | None:
        """The sample that was stored when this frame was sent before, if there is one."""
        frame = (sample.camera, sample.seq, received)
        identifier = sample.id if sample.id in self._known else self._frames.get(frame)
        if identifier is not None:
            return self._known[identifier]
        return self._read(
            # The one of the same id first; an OR would look for both and sort them.
            f"{KNOWN} WHERE id = ? UNION ALL "
            f"{KNOWN} WHERE camera = ? AND seq = ? AND received_digest = ? LIMIT 1",
            [sample.id, *frame],
        )

    def _read(self, query: str, parameters: Sequence[object]) -> Known | None:
        found = read_known(self._db, self._paths.root, query, parameters)
        return None if found is None else self._known.get(found.id, found)

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._paths.root))
