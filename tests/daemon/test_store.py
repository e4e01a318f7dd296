from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import stored
from sqlite_utils import Database

from dance_ondevice import images
from dance_ondevice.daemon import room, samples
from dance_ondevice.daemon.schema import SchemaTooNew
from dance_ondevice.daemon.state import StatePaths
from dance_ondevice.daemon.store import (
    LabelMismatch,
    LabelProtected,
    Store,
    StoreError,
    StoreFull,
    StoreSnapshot,
    UnknownSample,
    digest,
    open_reader,
)

KB = 1000
WAIT = 30


@contextmanager
def opened(paths: StatePaths, **options: Any) -> Iterator[Store]:
    store = Store(paths, **{"quota_bytes": 1 << 30, "min_free_bytes": 0, **options})
    store.start()
    try:
        yield store
    finally:
        assert store.stop(WAIT)
        assert store.failure is None


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
    assert row["digest"] == row["received_digest"] == digest(sample.data)
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
        events.append(f"flush {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def note_rename(self: Path, target: Path) -> Path:
        events.append(f"rename {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_rename)
    with opened(paths) as store:
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
    wanted = [f"flush .{name}.tmp", f"rename {name}", "flush 2025-10-09", "INSERT", "COMMIT", "ack"]
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
    again = store.add_sample(stored.new_sample(1, data=b"other", score=0.9)).result(WAIT)
    assert (again.id, again.duplicate, again.score, again.scale) == (first.id, True, 0.2, 0.5)
    assert len(stored.files(paths)) == len(stored.rows(paths)) == 1


def test_the_same_bytes_under_a_new_time_are_the_same_sample(store: Store, paths: StatePaths) -> None:
    first = store.add_sample(stored.new_sample(1)).result(WAIT)
    again = store.add_sample(stored.new_sample(1, at=stored.START + 60)).result(WAIT)
    assert again.duplicate
    assert again.id == first.id
    assert len(stored.files(paths)) == 1


def test_a_reencoded_frame_is_known_by_what_was_received(store: Store, paths: StatePaths) -> None:
    received = digest(b"as it came")
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


def test_a_resent_frame_is_not_evicted_by_what_comes_with_it(paths: StatePaths) -> None:
    with opened(paths, quota_bytes=30 * KB) as store:
        fill(store, 3)
    store = Store(paths, quota_bytes=30 * KB, min_free_bytes=0)
    futures = [store.add_sample(block(seq)) for seq in (0, 10, 11)]
    store.start()
    assert futures[0].result(WAIT).duplicate
    assert not futures[1].result(WAIT).duplicate
    assert store.stop(WAIT)
    assert 0 in {row["seq"] for row in stored.rows(paths).values()}


def test_a_resent_frame_brings_its_label_but_replaces_none(store: Store, paths: StatePaths) -> None:
    sample = stored.new_sample(1)
    store.add_sample(sample).result(WAIT)
    store.add_sample(stored.new_sample(1, label=[4])).result(WAIT)
    assert stored.rows(paths)[sample.id]["classes"] == "[4]"
    store.add_sample(stored.new_sample(1, label=[5])).result(WAIT)
    assert stored.rows(paths)[sample.id]["classes"] == "[4]"
    assert store.snapshot().bytes == stored.total_bytes(paths)


def test_a_label_can_come_later_and_be_replaced(store: Store, paths: StatePaths) -> None:
    sample = stored.new_sample(1, native_width=32, native_height=24, scale=0.5)
    store.add_sample(sample).result(WAIT)
    assert store.snapshot().samples_unlabelled == 1
    for classes, source in (([1, 2, 7], "teacher"), ([4], "teacher"), ([3], "import")):
        png = stored.label_png(32, 24, classes)
        assert store.add_label(sample.id, png, classes, source).result(WAIT) is None
        row = stored.rows(paths)[sample.id]
        assert json.loads(row["classes"]) == classes
        assert row["label_source"] == source
        assert (paths.root / row["label_path"]).read_bytes() == png
        assert (row["native_width"], row["scale"]) == (32, 0.5)
    assert store.snapshot() == StoreSnapshot(
        samples_labelled=1, bytes=stored.total_bytes(paths), free_bytes=store.snapshot().free_bytes
    )


@pytest.mark.parametrize("source", ["teacher", "self"])
def test_no_model_writes_over_a_label_that_no_model_made(
    store: Store, paths: StatePaths, source: str
) -> None:
    with_frame, later = stored.new_sample(1, label=[1, 2]), stored.new_sample(2)
    store.add_sample(with_frame).result(WAIT)
    store.add_sample(later).result(WAIT)
    # In one group with the label that it must not replace, too.
    first = store.add_label(later.id, stored.label_png(16, 12, [5]), [5], "wire")
    second = store.add_label(later.id, stored.label_png(16, 12, [6]), [6], source, confidence=0.99)
    first.result(WAIT)
    for refused in (second, store.add_label(with_frame.id, stored.label_png(16, 12, [6]), [6], source)):
        with pytest.raises(LabelProtected, match="no model made"):
            refused.result(WAIT)
    rows = stored.rows(paths)
    assert (rows[later.id]["classes"], rows[later.id]["label_source"]) == ("[5]", "wire")
    assert (paths.root / rows[later.id]["label_path"]).read_bytes() == stored.label_png(16, 12, [5])
    assert rows[with_frame.id]["label_source"] == "sender"


def test_a_frame_that_is_sent_again_with_its_label_replaces_a_models_label(
    store: Store, paths: StatePaths
) -> None:
    frame = stored.new_sample(1)
    store.add_sample(frame).result(WAIT)
    png = stored.label_png(16, 12, [6])
    store.add_label(frame.id, png, [6], "teacher", confidence=0.9).result(WAIT)
    assert stored.rows(paths)[frame.id]["label_confidence"] == 0.9
    store.add_sample(stored.new_sample(1, label=[1, 2])).result(WAIT)
    row = stored.rows(paths)[frame.id]
    assert (row["classes"], row["label_source"], row["label_confidence"]) == ("[1, 2]", "sender", None)


def test_a_label_in_the_same_group_as_its_frame(paths: StatePaths) -> None:
    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    sample = stored.new_sample(1)
    futures = [
        store.add_sample(sample),
        store.add_label(sample.id, stored.label_png(16, 12), [1, 2], "import"),
    ]
    store.start()
    for future in futures:
        future.result(WAIT)
    assert store.stop(WAIT)
    assert stored.rows(paths)[sample.id]["classes"] == "[1, 2]"


@pytest.mark.parametrize(
    ("png", "message"),
    [
        (stored.label_png(16, 13), "label is 16x13 and the frame 16x12"),
        (stored.png(16, 12), "8-bit png of 3 channels"),
        (images.encode_jpeg(images.decode_colour(stored.png(16, 12))), "jpeg"),
        (b"", "not a readable image"),
        (b"\x89PNG\r\n\x1a\n", "not a readable image"),
    ],
)
def test_a_label_that_does_not_fit_is_refused(
    store: Store, paths: StatePaths, png: bytes, message: str
) -> None:
    sample = stored.new_sample(1)
    store.add_sample(sample).result(WAIT)
    with pytest.raises(LabelMismatch, match=message):
        store.add_label(sample.id, png, [1], "import").result(WAIT)
    assert len(stored.files(paths)) == 1
    assert stored.rows(paths)[sample.id]["label_path"] is None


def test_a_frame_whose_label_does_not_fit_is_not_kept(store: Store, paths: StatePaths) -> None:
    sample = stored.new_sample(1, label=[1], native_width=32, native_height=24)
    with pytest.raises(LabelMismatch, match="16x12 and the frame 32x24"):
        store.add_sample(sample).result(WAIT)
    assert stored.files(paths) == []
    assert stored.rows(paths) == {}


def test_a_label_for_nothing_is_refused(store: Store) -> None:
    with pytest.raises(UnknownSample, match="'front-1-2'"):
        store.add_label("front-1-2", stored.label_png(16, 12), [1], "import").result(WAIT)


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
    with opened(paths) as store:
        record = {"migration_set": "dance_ondevice", "name": "9999_later", "applied_at": "2099-01-01"}
        store.submit(lambda db: db.table("_sqlite_migrations").insert(record)).result(WAIT)
    with pytest.raises(SchemaTooNew, match="9999_later"):
        Store(paths, quota_bytes=1, min_free_bytes=0).start()


@pytest.mark.parametrize("name", ["with space", "what?#%41", "ümlaut"])
def test_readers_see_acked_samples_and_cannot_write(tmp_path: Path, name: str) -> None:
    paths = StatePaths(tmp_path / name)
    with opened(paths) as store:
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


def block(seq: int, size: int = 10 * KB, **changes: Any) -> Any:
    """A sample of a given size; the store does not look into images."""
    return stored.new_sample(seq, data=seq.to_bytes(4, "big") + bytes(size - 4), **changes)


def fill(store: Store, count: int, start: int = 0, size: int = 10 * KB) -> None:
    for future in [store.add_sample(block(seq, size)) for seq in range(start, start + count)]:
        future.result(WAIT)


def test_the_quota_holds_by_evicting_the_oldest(paths: StatePaths) -> None:
    with opened(paths, quota_bytes=400 * KB) as store:
        fill(store, 30)
        for seq in range(30, 60):
            store.add_sample(block(seq)).result(WAIT)
            assert store.snapshot().bytes == stored.total_bytes(paths) <= 400 * KB
    kept = sorted(row["seq"] for row in stored.rows(paths).values())
    assert kept == list(range(kept[0], 60))
    assert len(kept) >= 38


def test_the_quota_holds_within_one_group(paths: StatePaths) -> None:
    store = Store(paths, quota_bytes=35 * KB, min_free_bytes=0)
    futures = [store.add_sample(block(seq)) for seq in range(6)]
    store.start()
    for future in futures:
        future.result(WAIT)
    assert store.stop(WAIT)
    assert stored.total_bytes(paths) <= 35 * KB
    assert block(5).id in stored.rows(paths)


def test_an_eviction_makes_room_for_more_than_one(paths: StatePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_choices(monkeypatch)
    with opened(paths, quota_bytes=200 * KB) as store:
        fill(store, 260, size=KB)
    assert 0 < len(calls) <= 60 / 4


def test_held_out_samples_and_those_of_a_running_round_stay(paths: StatePaths) -> None:
    def hold(db: Database) -> None:
        db.execute("UPDATE samples SET split = 'gate' WHERE seq < 3")
        db.table("rounds").insert({"id": "r1", "started_at": 0.0})
        db.execute("INSERT INTO round_samples SELECT 'r1', id, 'new' FROM samples WHERE seq IN (3, 4)")

    with opened(paths, quota_bytes=100 * KB) as store:
        fill(store, 6)
        store.submit(hold).result(WAIT)
        fill(store, 20, start=6)
        assert {0, 1, 2, 3, 4} <= {row["seq"] for row in stored.rows(paths).values()}
        store.submit(lambda db: db.execute("UPDATE rounds SET outcome = 'failed'")).result(WAIT)
        fill(store, 20, start=26)
        assert {0, 1, 2} == {row["seq"] for row in stored.rows(paths).values()} & {0, 1, 2, 3, 4}


def test_a_full_store_says_what_to_do_and_asks_the_policy_once(
    paths: StatePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_choices(monkeypatch)
    with opened(paths, quota_bytes=100 * KB) as store:
        fill(store, 10)
        store.submit(lambda db: db.execute("UPDATE samples SET split = 'gate' WHERE seq < 9")).result(WAIT)
        for seq in range(20, 25):
            with pytest.raises(StoreFull, match=r"quota is 100000 bytes.*storage.quota_bytes.*purge"):
                store.add_sample(block(seq, 30 * KB)).result(WAIT)
        assert len(calls) == 1
        assert len(stored.rows(paths)) == 10, "nothing goes if it does not make room"
        assert store.add_sample(block(30)).result(WAIT).kept
        store.submit(lambda db: db.execute("UPDATE samples SET split = NULL")).result(WAIT)
        assert store.add_sample(block(31, 30 * KB)).result(WAIT).kept
    assert stored.total_bytes(paths) <= 100 * KB


def test_a_sample_above_the_quota_costs_nothing_stored(paths: StatePaths) -> None:
    with opened(paths, quota_bytes=100 * KB) as store:
        fill(store, 10)
        with pytest.raises(StoreFull):
            store.add_sample(block(20, 101 * KB)).result(WAIT)
    assert len(stored.rows(paths)) == 10


def test_a_label_counts_for_the_quota(paths: StatePaths) -> None:
    png = stored.label_png(16, 12)
    with opened(paths, quota_bytes=20 * KB + len(png) - 1) as store:
        fill(store, 2)
        second = block(1).id
        store.add_label(second, png, [1, 2], "import").result(WAIT)
        assert list(stored.rows(paths)) == [second], "the labelled one itself never makes the room"
        assert store.snapshot().bytes == stored.total_bytes(paths)


def test_a_lowered_quota_is_met_at_the_next_write(paths: StatePaths) -> None:
    with opened(paths) as store:
        fill(store, 20)
    with opened(paths, quota_bytes=50 * KB) as store:
        fill(store, 1, start=20)
        assert store.snapshot().bytes <= 50 * KB


def test_the_free_space_floor_holds(paths: StatePaths) -> None:
    disk = 100 * KB

    def free(_path: Path) -> int:
        return disk - stored.total_bytes(paths)

    with opened(paths, min_free_bytes=40 * KB, free_bytes=free) as store:
        fill(store, 12)
        assert stored.total_bytes(paths) <= 60 * KB
        store.submit(lambda db: db.execute("UPDATE samples SET split = 'gate'")).result(WAIT)
        with pytest.raises(StoreFull, match=r"storage.min_free_bytes keeps 40000.*free some space"):
            store.add_sample(block(20, 59 * KB)).result(WAIT)
        assert stored.total_bytes(paths) <= 60 * KB


def count_choices(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    choose: Callable[..., list[str]] = room.choose_evictions

    def counted(candidates: list[Any], bytes_to_free: int, seed: int) -> list[str]:
        calls.append(bytes_to_free)
        return choose(candidates, bytes_to_free, seed)

    monkeypatch.setattr(room, "choose_evictions", counted)
    return calls
