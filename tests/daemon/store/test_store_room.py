"""The quota and the floor of free space: what makes room, what stays, what is refused."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import stored
from sqlite_utils import Database

from dance_ondevice.daemon.store import quota as room
from dance_ondevice.daemon.store.samples import StoreFull
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths

KB = 1000
WAIT = 30


def test_a_resent_frame_is_not_evicted_by_what_comes_with_it(paths: StatePaths) -> None:
    with stored.opened(paths, quota_bytes=30 * KB) as store:
        fill(store, 3)
    store = Store(paths, quota_bytes=30 * KB, min_free_bytes=0)
    futures = [store.add_sample(block(seq)) for seq in (0, 10, 11)]
    store.start()
    assert futures[0].result(WAIT).duplicate
    assert not futures[1].result(WAIT).duplicate
    assert store.stop(WAIT)
    assert 0 in {row["seq"] for row in stored.rows(paths).values()}


def block(seq: int, size: int = 10 * KB, **changes: Any) -> Any:
    """A sample of a given size; the store does not look into images."""
    return stored.new_sample(seq, data=seq.to_bytes(4, "big") + bytes(size - 4), **changes)


def fill(store: Store, count: int, start: int = 0, size: int = 10 * KB) -> None:
    for future in [store.add_sample(block(seq, size)) for seq in range(start, start + count)]:
        future.result(WAIT)


def test_the_quota_holds_by_evicting_the_oldest(paths: StatePaths) -> None:
    with stored.opened(paths, quota_bytes=400 * KB) as store:
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
    with stored.opened(paths, quota_bytes=200 * KB) as store:
        fill(store, 260, size=KB)
    assert 0 < len(calls) <= 60 / 4


def test_held_out_samples_and_those_of_a_running_round_stay(paths: StatePaths) -> None:
    def hold(db: Database) -> None:
        db.execute("UPDATE samples SET split = 'gate' WHERE seq < 3")
        db.table("rounds").insert({"id": "r1", "started_at": 0.0})
        db.execute("INSERT INTO round_samples SELECT 'r1', id, 'new' FROM samples WHERE seq IN (3, 4)")

    with stored.opened(paths, quota_bytes=100 * KB) as store:
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
    with stored.opened(paths, quota_bytes=100 * KB) as store:
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
    with stored.opened(paths, quota_bytes=100 * KB) as store:
        fill(store, 10)
        with pytest.raises(StoreFull):
            store.add_sample(block(20, 101 * KB)).result(WAIT)
    assert len(stored.rows(paths)) == 10


def test_a_label_counts_for_the_quota(paths: StatePaths) -> None:
    png = stored.label_png(16, 12)
    with stored.opened(paths, quota_bytes=20 * KB + len(png) - 1) as store:
        fill(store, 2)
        second = block(1).id
        store.add_label(second, png, [1, 2], "import").result(WAIT)
        assert list(stored.rows(paths)) == [second], "the labelled one itself never makes the room"
        assert store.snapshot().bytes == stored.total_bytes(paths)
        before = store.snapshot()
        # A labelled frame pushes out the only other one: as many labels as before, and yet one has come.
        third = stored.new_sample(2, data=block(2).data, label=[1, 2])
        store.add_sample(third).result(WAIT)
        assert list(stored.rows(paths)) == [third.id]
        assert store.snapshot().samples_labelled == before.samples_labelled
        assert store.snapshot().labels != before.labels
        assert (before.labels_stored, store.snapshot().labels_stored) == (1, 2)


def test_a_lowered_quota_is_met_at_the_next_write(paths: StatePaths) -> None:
    with stored.opened(paths) as store:
        fill(store, 20)
    with stored.opened(paths, quota_bytes=50 * KB) as store:
        fill(store, 1, start=20)
        assert store.snapshot().bytes <= 50 * KB


def test_the_free_space_floor_holds(paths: StatePaths) -> None:
    disk = 100 * KB

    def free(_path: Path) -> int:
        return disk - stored.total_bytes(paths)

    with stored.opened(paths, min_free_bytes=40 * KB, free_bytes=free) as store:
        fill(store, 12)
        assert stored.total_bytes(paths) <= 60 * KB
        store.submit(lambda db: db.execute("UPDATE samples SET split = 'gate'")).result(WAIT)
        with pytest.raises(StoreFull, match=r"storage.min_free_bytes keeps [0-9.]+ [KMG]iB.*free some space"):
            store.add_sample(block(20, 59 * KB)).result(WAIT)
        assert stored.total_bytes(paths) <= 60 * KB


@pytest.mark.parametrize(
    ("counted", "foreign", "left"),
    [(100, 0, range(33, 40)), (0, 0, range(60, 61)), (200, 100, range(50, 61))],
    ids=["inodes", "none counted", "the files of others"],
)
def test_samples_go_where_they_are_what_fills_the_disk_with_files(
    paths: StatePaths, monkeypatch: pytest.MonkeyPatch, counted: int, foreign: int, left: range
) -> None:
    """A card that was made for large files runs out of inodes while bytes are free."""

    def statvfs(_path: Path) -> SimpleNamespace:
        there = foreign + sum(path.is_file() for path in paths.samples.rglob("*"))
        free = max(0, counted - there)
        return SimpleNamespace(f_files=counted, f_ffree=free, f_favail=free)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(room, "FEW_FILES", 64)
    with stored.opened(paths, free_bytes=lambda _: 1 << 30) as store:
        for seq in range(60):
            fill(store, 1, start=seq)
        kept = sorted(row["seq"] for row in stored.rows(paths).values())
        assert kept == list(range(kept[0], 60))
        assert len(kept) in left
        store.submit(lambda db: db.execute("UPDATE samples SET split = 'gate'")).result(WAIT)
        fill(store, 1, start=60)  # nothing may go: it is tried all the same
        assert 60 in {row["seq"] for row in stored.rows(paths).values()}


def test_the_disk_of_the_samples_counts_and_not_the_one_of_the_index(paths: StatePaths) -> None:
    """Where ``samples`` is a disk of its own, no eviction makes room on the other."""
    with stored.opened(
        paths, min_free_bytes=40 * KB, free_bytes=lambda path: 1 << 30 if path == paths.samples else 0
    ) as store:
        fill(store, 3)
        assert len(stored.rows(paths)) == 3
        assert store.snapshot().free_bytes == 1 << 30


def count_choices(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    choose: Callable[..., list[str]] = room.choose_evictions

    def counted(candidates: list[Any], bytes_to_free: int, seed: int) -> list[str]:
        calls.append(bytes_to_free)
        return choose(candidates, bytes_to_free, seed)

    monkeypatch.setattr(room, "choose_evictions", counted)
    return calls


def test_a_cut_quota_is_paid_off_in_pieces_and_a_frame_waits_for_one(
    paths: StatePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[int] = []
    delete = room.delete_samples

    def counted(db: Database, where: StatePaths, ids: Any) -> int:
        pieces.append(len(ids))
        return delete(db, where, ids)

    monkeypatch.setattr(room, "delete_samples", counted)
    with stored.opened(paths) as store:
        fill(store, 300, size=KB)
        assert pieces == []
        both, when_kept = threading.Event(), []
        store.submit(lambda db: both.wait(WAIT))
        store.set_limits(quota_bytes=50 * KB, min_free_bytes=0)
        kept = store.add_sample(block(300, KB))
        kept.add_done_callback(lambda _: when_kept.append(len(pieces)))
        both.set()
        assert kept.result(WAIT).kept
        # Nobody writes any more: it goes on by itself.
        while store.snapshot().bytes > 50 * KB:
            store.submit(lambda db: None).result(WAIT)
    assert when_kept[0] <= 2, "the frame waits for a piece, not for all"
    assert max(pieces) <= room.PIECE
    assert 4 <= len(pieces) <= 8
    left = sorted(row["seq"] for row in stored.rows(paths).values())
    assert left == list(range(301 - len(left), 301)), "the oldest have gone"


@pytest.mark.slow
def test_a_camera_that_is_gone_lets_go_of_what_was_held_out(paths: StatePaths) -> None:
    with stored.opened(paths, quota_bytes=100 * KB) as store:
        for seq in range(60):
            store.add_sample(block(seq, KB, camera="old-name", label=(1,))).result(WAIT)
        store.submit(lambda db: db.execute("UPDATE samples SET split = 'gate'")).result(WAIT)
        fill(store, 120, size=KB, start=100)
        assert held(paths, "old-name") == 60, "it may only be silent for a while"
        fill(store, 110, size=KB, start=300)
        assert held(paths, "old-name") == 0
        assert len(stored.rows(paths)) > 90


def held(paths: StatePaths, camera: str) -> int:
    return sum(row["camera"] == camera for row in stored.rows(paths).values())


@pytest.mark.slow
def test_a_full_store_keeps_every_light_through_three_days_and_nights(paths: StatePaths) -> None:
    """By day four times as many frames come; the signature's last digits tell how bright a frame is."""
    with stored.opened(paths, quota_bytes=600 * KB) as store:
        seq = 0
        for _ in range(3):
            for level, count in (("9", 120), ("2", 30)):
                futures = []
                for _ in range(count):
                    pattern = f"{seq * 2654435761 % 16**12:012x}" * 16
                    futures.append(store.add_sample(block(seq, signature=pattern + level * 8)))
                    seq += 1
                for future in futures:
                    future.result(WAIT)
    found = [row["signature"][-1] for row in stored.rows(paths).values()]
    assert set(found) == {"9", "2"}
    assert found.count("2") >= 25, "a night is not pushed out by the days around it"


def test_what_repeats_is_evicted_first(paths: StatePaths) -> None:
    same, other = "5" * 200, "6" * 200
    with stored.opened(paths, quota_bytes=60 * KB) as store:
        for seq, signature in enumerate((other, same, same, same)):
            store.add_sample(block(seq, signature=signature)).result(WAIT)
        for seq in range(10, 14):
            store.add_sample(block(seq, signature=f"{seq:x}" * 200)).result(WAIT)
    kept = {row["seq"] for row in stored.rows(paths).values()}
    assert {0, 1} <= kept
    assert not {2, 3} & kept


def test_it_is_told_why_frames_are_not_stored_until_one_is(paths: StatePaths) -> None:
    free = [0]
    with stored.opened(paths) as store:
        store.add_sample(block(9)).result(WAIT)
    store = Store(paths, quota_bytes=100 * KB, min_free_bytes=1, free_bytes=lambda _: free[0])
    store.start()
    told = []
    for seq in range(2):
        with pytest.raises(StoreFull) as caught:
            store.add_sample(block(seq)).result(WAIT)
        told.append(str(caught.value))
        assert store.snapshot().trouble == told[0]
    assert store.add_sample(block(9)).result(WAIT).duplicate
    assert store.snapshot().trouble == told[0], "what was stored before says nothing about the disk"
    free[0] = 1000 * KB
    store.add_sample(block(2)).result(WAIT)
    assert store.snapshot().trouble == ""
    assert store.stop(WAIT)


def test_the_last_frame_of_a_group_tells_whether_frames_are_stored(paths: StatePaths) -> None:
    (paths.samples / "rear").write_text("where the camera's folder should be")
    for cameras, stored_last in ((("front", "rear"), False), (("rear", "front"), True)):
        store = Store(paths, quota_bytes=100 * KB, min_free_bytes=0)
        futures = [store.add_sample(block(seq, camera=camera)) for seq, camera in enumerate(cameras)]
        store.start()
        assert [future.exception(WAIT) is None for future in futures] == [not stored_last, stored_last]
        assert (store.snapshot().trouble == "") is stored_last
        assert store.stop(WAIT)
