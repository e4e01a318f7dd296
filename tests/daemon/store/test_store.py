from __future__ import annotations

import errno
import json
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import stored
from sqlite_utils import Database

from dance_ondevice.daemon.store import samples
from dance_ondevice.daemon.store.samples import (
    OtherPicture,
    StoreError,
    StoreFull,
    image_digest,
    storage_error,
)
from dance_ondevice.daemon.store.schema import SchemaTooNew
from dance_ondevice.daemon.store.service import Store, open_reader
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.files import leftover_of

WAIT = 30


def test_a_kept_sample_is_a_file_and_a_row(store: Store, paths: StatePaths) -> None:
    sample = stored.new_sample(7, label=[2, 0])
    result = store.add_sample(sample).result(WAIT)
    assert (result.id, result.duplicate, result.score, result.scale, result.kept) == (
        sample.id,
        False,
        0.5,
        1.0,
        True,
    )
    row = stored.rows(paths)[sample.id]
    assert row["path"] == f"samples/front/2025-10-09/{sample.id}.png"
    assert (paths.root / row["path"]).read_bytes() == sample.data
    assert row["label_path"] == f"samples/front/2025-10-09/{sample.id}.label.png"
    assert (paths.root / row["label_path"]).read_bytes() == sample.label
    assert row["bytes"] == stored.total_bytes(paths)
    assert row["digest"] == row["received_digest"] == image_digest(sample.data)
    assert json.loads(row["classes"]) == [0, 2]
    given = ("camera", "seq", "captured_at", "received_at", "quantile", "weight", "reason", "label_source")
    assert {name: row[name] for name in given} == {name: getattr(sample, name) for name in given}
    assert (row["split"], row["rounds_used"], row["origin"]) == (None, 0, "stream")
    snapshot = store.snapshot()
    assert (snapshot.samples_labelled, snapshot.samples_unlabelled, snapshot.bytes) == (1, 0, row["bytes"])
    assert snapshot.free_bytes > 0


def test_an_ack_comes_after_file_folder_and_row_are_flushed(
    paths: StatePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        events.append(f"flush {leftover_of(name) or name}")
        fsync(descriptor)

    def note_rename(self: Path, target: Path) -> Path:
        events.append(f"rename {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_rename)
    with stored.opened(paths) as store:
        del events[:]
        sample = stored.new_sample()
        store.submit(lambda db: db.conn.set_trace_callback(lambda sql: events.append(sql.split()[0]))).result(
            WAIT
        )
        del events[:]
        future = store.add_sample(sample)
        future.add_done_callback(lambda _: events.append("ack"))
        future.result(WAIT)
        store.submit(lambda db: db.conn.set_trace_callback(None)).result(WAIT)
    name = f"{sample.id}.png"
    wanted = [f"flush {name}", f"rename {name}", "flush 2025-10-09", "INSERT", "COMMIT", "ack"]
    order = [event for event in events if event in wanted]
    # The trace also tells of the triggers that run within a statement.
    steps = [event for event, before in zip(order, ["", *order], strict=False) if event != before]
    assert steps[: len(wanted)] == wanted
    assert events.index("flush samples") < events.index("COMMIT"), "a new folder's own name is flushed too"


def test_one_flush_of_each_folder_a_group(paths: StatePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    sync = samples.sync_directory

    def note(folder: Path) -> None:
        flushed.append(folder.name)
        sync(folder)

    monkeypatch.setattr(samples, "sync_directory", note)
    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    futures = [
        store.add_sample(stored.new_sample(seq, camera=camera)) for seq in range(10) for camera in "ab"
    ]
    store.start()
    for future in futures:
        future.result(WAIT)
    assert store.stop(WAIT)
    assert sorted(flushed) == ["2025-10-09", "2025-10-09", "a", "b", "samples", "state"]


def test_the_same_frame_again_is_the_same_sample(store: Store, paths: StatePaths) -> None:
    first = store.add_sample(stored.new_sample(1, score=0.2, scale=0.5)).result(WAIT)
    again = store.add_sample(stored.new_sample(1, score=0.9)).result(WAIT)
    assert (again.id, again.duplicate, again.score, again.scale) == (first.id, True, 0.2, 0.5)
    with pytest.raises(OtherPicture, match="count seq up"):
        store.add_sample(stored.new_sample(1, data=b"other")).result(WAIT)
    assert len(stored.files(paths)) == len(stored.rows(paths)) == 1


def test_the_same_bytes_under_a_new_time_are_the_same_sample(store: Store, paths: StatePaths) -> None:
    first = store.add_sample(stored.new_sample(1)).result(WAIT)
    again = store.add_sample(stored.new_sample(1, at=stored.START + 60)).result(WAIT)
    assert again.duplicate
    assert again.id == first.id
    assert len(stored.files(paths)) == 1


def test_a_reencoded_frame_is_known_by_what_was_received(store: Store, paths: StatePaths) -> None:
    received = image_digest(b"as it came")
    store.add_sample(stored.new_sample(1, received_digest=received)).result(WAIT)
    again = stored.new_sample(1, at=5.0, data=stored.png(8, 6), received_digest=received)
    assert store.add_sample(again).result(WAIT).duplicate
    assert len(stored.rows(paths)) == 1


def test_a_restarted_camera_counts_anew(store: Store, paths: StatePaths) -> None:
    store.add_sample(stored.new_sample(0)).result(WAIT)
    other = stored.new_sample(0, at=stored.START + 3600, data=stored.png(16, 12, seed=99))
    assert not store.add_sample(other).result(WAIT).duplicate
    assert len(stored.rows(paths)) == 2


def test_duplicates_within_one_group(paths: StatePaths) -> None:
    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    futures = [
        store.add_sample(stored.new_sample(1)),
        store.add_sample(stored.new_sample(1, label=[3])),
        store.add_sample(stored.new_sample(1, at=9.0)),
    ]
    store.start()
    results = [future.result(WAIT) for future in futures]
    assert store.stop(WAIT)
    assert [result.duplicate for result in results] == [False, True, True]
    assert len({result.id for result in results}) == 1
    (row,) = stored.rows(paths).values()
    assert row["classes"] == "[3]"
    assert row["bytes"] == stored.total_bytes(paths)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "../../etc/passwd"},
        {"id": "rear-1-1"},
        {"camera": "../up"},
        {"captured_at": -5.0},
        {"format": "webp"},
        {"score": float("nan")},
        {"id": f"front-1-{2**63}"},
        {"width": 2**63},
        {"received_digest": "\ud800"},
    ],
)
def test_an_impossible_sample_is_refused_alone(
    paths: StatePaths, tmp_path: Path, changes: dict[str, Any]
) -> None:
    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    bad = store.add_sample(stored.new_sample(1, **changes))
    good = store.add_sample(stored.new_sample(2))
    store.start()
    with pytest.raises(StoreError):
        bad.result(WAIT)
    assert good.result(WAIT).kept
    assert store.stop(WAIT)
    assert [Path(name).stem for name in stored.files(paths)] == list(stored.rows(paths))
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_functions_run_in_the_transaction_in_their_order(paths: StatePaths) -> None:
    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    sample = stored.new_sample(1)

    def fail(db: Database) -> None:
        db.execute("UPDATE samples SET reason = 'undone'")
        raise LookupError("mine")

    before = store.submit(lambda db: db.table("samples").count)
    store.add_sample(sample)
    after = store.submit(lambda db: (db.table("samples").count, db.conn.in_transaction))
    failing = store.submit(fail)
    split = store.submit(lambda db: db.execute("UPDATE samples SET split = 'gate'").rowcount)
    store.start()
    assert before.result(WAIT) == 0
    assert after.result(WAIT) == (1, True)
    with pytest.raises(LookupError, match="mine"):
        failing.result(WAIT)
    assert split.result(WAIT) == 1
    assert store.stop(WAIT)
    assert (stored.rows(paths)[sample.id]["reason"], stored.rows(paths)[sample.id]["split"]) == (
        "detailed",
        "gate",
    )


def test_removing_forgets_rows_and_files(store: Store, paths: StatePaths) -> None:
    kept, gone = stored.new_sample(1), stored.new_sample(2, label=[1])
    for sample in (kept, gone):
        store.add_sample(sample).result(WAIT)
    assert store.remove_samples([gone.id, "front-9-9"]).result(WAIT) == 1
    assert list(stored.rows(paths)) == [kept.id]
    assert [Path(name).stem for name in stored.files(paths)] == [kept.id]
    assert store.snapshot().bytes == len(kept.data)
    store.remove_samples([kept.id]).result(WAIT)
    assert list(paths.samples.rglob("2025*")) == [], "an empty folder goes with its last sample"
    assert not store.add_sample(gone).result(WAIT).duplicate


@pytest.mark.parametrize(
    ("counted", "left", "words"), [(100, 0, "df -i"), (100, 5, "free some space"), (0, 0, "free some space")]
)
def test_a_disk_without_room_for_files_is_told_from_one_without_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: int, left: int, words: str
) -> None:
    """Cards of many small files run out of inodes first; btrfs counts none and says 0 of 0."""
    monkeypatch.setattr(
        os, "statvfs", lambda _: SimpleNamespace(f_files=counted, f_ffree=left, f_favail=left)
    )

    error = storage_error(OSError(errno.ENOSPC, "No space left"), tmp_path / "front" / "a.jpg")

    assert isinstance(error, StoreFull)
    assert words in str(error)


def test_stopping_writes_what_is_queued_and_takes_no_more(paths: StatePaths) -> None:
    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    store.start()
    futures = [store.add_sample(stored.new_sample(seq)) for seq in range(150)]
    assert store.stop(WAIT)
    assert all(future.result(0).kept for future in futures)
    assert len(stored.rows(paths)) == 150
    with pytest.raises(StoreError, match="has stopped"):
        store.submit(lambda db: None).result(0)


def test_a_cancelled_operation_is_not_carried_out(paths: StatePaths) -> None:
    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    assert store.add_sample(stored.new_sample(1)).cancel()
    store.start()
    assert store.stop(WAIT)
    assert stored.rows(paths) == {}


def test_a_store_that_cannot_open_says_so(paths: StatePaths) -> None:
    paths.database.mkdir()
    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    waiting = store.add_sample(stored.new_sample(1))
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        store.start()
    with pytest.raises(StoreError, match="has stopped"):
        waiting.result(WAIT)


def test_a_store_of_a_later_version_is_left_alone(paths: StatePaths) -> None:
    with stored.opened(paths) as store:
        record = {"migration_set": "dance_ondevice", "name": "9999_later", "applied_at": "2099-01-01"}
        store.submit(lambda db: db.table("_sqlite_migrations").insert(record)).result(WAIT)
    with pytest.raises(SchemaTooNew, match="9999_later"):
        Store(paths, quota_bytes=1, min_free_bytes=0).start()


@pytest.mark.parametrize("name", ["with space", "what?#%41", "ümlaut"])
def test_readers_see_acked_samples_and_cannot_write(tmp_path: Path, name: str) -> None:
    paths = StatePaths(tmp_path / name)
    with stored.opened(paths) as store:
        store.add_sample(stored.new_sample(1)).result(WAIT)
        db = open_reader(paths)
        assert db.table("samples").count == 1
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("DELETE FROM samples")
        db.close()


def test_reading_nothing_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"dance\.db cannot be opened.*state directory"):
        open_reader(StatePaths(tmp_path))
    assert list(tmp_path.iterdir()) == []
