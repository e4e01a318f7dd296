"""The store when the disk, the index or the process fails: acked samples stay, others are refused."""

from __future__ import annotations

import errno
import os
import random
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import store_worker
from sqlite_utils import Database
from stored import WAIT, files, opened, rows, total_bytes

from dance_ondevice.daemon.store.reconcile import reconcile
from dance_ondevice.daemon.store.samples import NewSample, StoreError, StoreFull
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.files import leftover_of

WORKER = Path(store_worker.__file__)


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    return StatePaths(tmp_path / "state")


def consistent(paths: StatePaths) -> None:
    """Every row has its files and every file its row."""
    named = {row[name] for row in rows(paths).values() for name in ("path", "label_path")} - {None}
    assert set(files(paths)) == named


def fail_writes(
    monkeypatch: pytest.MonkeyPatch, code: int, broken: Callable[[str], bool], *, call: str = "write"
) -> None:
    """Make the system call fail, half done, for every open file whose name is ``broken``."""
    real = getattr(os, call)

    def failing(descriptor: int, *data: memoryview) -> Any:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if not broken(name):
            return real(descriptor, *data)
        if data and len(data[0]) > 100:
            return real(descriptor, data[0][:100])
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, failing)


def of(sample: NewSample) -> Callable[[str], bool]:
    return lambda name: name.startswith(f".{sample.id}.")


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize(
    "failure",
    [
        (errno.ENOSPC, StoreFull, "disk is full.*free some space"),
        (errno.EDQUOT, StoreFull, "disk is full"),
        (errno.EIO, StoreError, "check the disk"),
        (errno.EROFS, StoreError, "read-only file system"),
    ],
)
def test_one_file_that_fails_is_refused_alone(
    paths: StatePaths,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    failure: tuple[int, type[StoreError], str],
) -> None:
    code, kind, message = failure
    good, bad, last = (store_worker.frame(number) for number in (1, 2, 5))
    with monkeypatch.context() as patch:
        fail_writes(patch, code, of(bad), call=call)
        store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
        futures = [store.add_sample(sample) for sample in (good, bad, last)]
        store.start()
        assert futures[0].result(WAIT).kept
        assert futures[2].result(WAIT).kept
        with pytest.raises(StoreError, match=message) as refusal:
            futures[1].result(WAIT)
        assert type(refusal.value) is kind
        assert set(rows(paths)) == {good.id, last.id}
        consistent(paths)
        assert store.snapshot().bytes == total_bytes(paths)
    assert not store.add_sample(bad).result(WAIT).duplicate, "works again once the disk does"
    assert store.stop(WAIT)
    consistent(paths)


def test_a_frame_whose_label_cannot_be_written_is_not_kept(
    paths: StatePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = store_worker.frame(3)
    fail_writes(monkeypatch, errno.ENOSPC, lambda name: (leftover_of(name) or "").endswith(".label.png"))
    with opened(paths) as store:
        with pytest.raises(StoreFull):
            store.add_sample(sample).result(WAIT)
        assert files(paths) == []
        assert store.add_sample(replace(sample, label=None)).result(WAIT).kept
        with pytest.raises(StoreFull):
            store.add_label(sample.id, sample.label or b"", (3,), "import").result(WAIT)
        assert rows(paths)[sample.id]["label_path"] is None
        consistent(paths)


def test_a_label_that_cannot_be_looked_up_costs_one_request_and_not_the_store(
    paths: StatePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, other = store_worker.frame(3), store_worker.frame(6)
    stat = Path.stat

    def failing(path: Path, **named: bool) -> os.stat_result:
        if path.name == f"{sample.id}.label.png":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return stat(path, **named)

    with opened(paths) as store:
        store.add_sample(sample).result(WAIT)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", failing)
            with pytest.raises(StoreError, match="check the disk"):
                store.add_label(sample.id, sample.label or b"", (3,), "import").result(WAIT)
            assert store.add_sample(other).result(WAIT).kept
        store.add_label(sample.id, sample.label or b"", (3,), "import").result(WAIT)
    consistent(paths)


def test_a_label_that_cannot_be_replaced_stays(paths: StatePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = store_worker.frame(3)
    with opened(paths) as store:
        store.add_sample(sample).result(WAIT)
        fail_writes(monkeypatch, errno.ENOSPC, of(sample))
        with pytest.raises(StoreFull):
            store.add_label(sample.id, store_worker.png(5, 1), (5,), "import").result(WAIT)
    row = rows(paths)[sample.id]
    assert (paths.root / row["label_path"]).read_bytes() == sample.label
    assert row["classes"] == "[3]"
    consistent(paths)


def test_a_folder_that_cannot_be_flushed_keeps_nothing_of_the_group(
    paths: StatePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = store_worker.frame(1), store_worker.frame(2)
    with monkeypatch.context() as patch:
        fail_writes(patch, errno.EIO, lambda name: name == "left", call="fsync")
        store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
        futures = [store.add_sample(left), store.add_sample(left), store.add_sample(right)]
        store.start()
        for future in futures[:2]:
            with pytest.raises(StoreError):
                future.result(WAIT)
        assert futures[2].result(WAIT).kept
        consistent(paths)
        assert set(rows(paths)) == {right.id}
    assert not store.add_sample(left).result(WAIT).duplicate
    assert store.stop(WAIT)
    consistent(paths)


def test_a_name_that_is_taken_is_refused(paths: StatePaths) -> None:
    sample = store_worker.frame(1)
    taken = paths.sample_dir(sample.camera, sample.captured_at) / f"{sample.id}.png"
    taken.mkdir(parents=True)
    with opened(paths) as store, pytest.raises(StoreError, match="could not be written"):
        store.add_sample(sample).result(WAIT)
    assert taken.is_dir()
    assert files(paths) == []


def test_a_full_index_refuses_and_loses_nothing(paths: StatePaths) -> None:
    acked: list[str] = []

    def limit(db: Database) -> None:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")

    with opened(paths) as store:
        store.submit(limit).result(WAIT)
        refused = None
        for number in range(200):
            sample = store_worker.frame(number)
            try:
                acked.append(store.add_sample(sample).result(WAIT).id)
            except StoreFull as error:
                refused = (sample, error)
                break
        assert refused is not None
        assert "the index could not be written" in str(refused[1])
        assert list(rows(paths)) == acked
        store.submit(lambda db: db.execute("PRAGMA max_page_count = 1000000")).result(WAIT)
        assert store.add_sample(store_worker.frame(500)).result(WAIT).kept
    assert set(rows(paths)) == {*acked, store_worker.frame(500).id}
    consistent(paths)


def test_a_commit_that_fails_promises_nothing_and_loses_nothing(paths: StatePaths) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    wal = paths.root / "dance.db-wal"

    def let_the_commit_fail(_db: Database) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size, hard))

    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    doubtful = store_worker.frame(1)
    futures: list[Any] = [store.add_sample(doubtful), store.submit(let_the_commit_fail)]
    try:
        store.start()
        for future in futures:
            with pytest.raises(StoreError, match="the index could not be written"):
                future.result(WAIT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert rows(paths) == {}
    assert len(files(paths)) == 1, "whether the commit took is not known, so the file stays"
    assert store.add_sample(store_worker.frame(2)).result(WAIT).kept
    assert store.stop(WAIT)
    assert reconcile(paths).adopted == 1
    consistent(paths)


def test_files_stay_when_their_rows_do(paths: StatePaths) -> None:
    with opened(paths) as store:
        sample = store_worker.frame(3)
        store.add_sample(sample).result(WAIT)
        store.submit(
            lambda db: db.execute(
                "CREATE TRIGGER keep BEFORE DELETE ON samples BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        ).result(WAIT)
        with pytest.raises(StoreError, match="the index could not be written: no"):
            store.remove_samples([sample.id]).result(WAIT)
        consistent(paths)
        store.submit(lambda db: db.execute("DROP TRIGGER keep")).result(WAIT)
        assert store.remove_samples([sample.id]).result(WAIT) == 1
        assert files(paths) == []


def test_a_corrupt_index_stops_the_store_and_leaves_nobody_waiting(paths: StatePaths) -> None:
    def meet_corruption(db: Database) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    futures: list[Any] = [
        store.add_sample(store_worker.frame(1)),
        store.submit(meet_corruption),
        store.add_sample(store_worker.frame(2)),
    ]
    store.start()
    for future in futures:
        with pytest.raises(StoreError, match="malformed"):
            future.result(WAIT)
    assert store.stop(WAIT)
    assert isinstance(store.failure, sqlite3.DatabaseError)
    with pytest.raises(StoreError, match="has stopped"):
        store.add_sample(store_worker.frame(3)).result(WAIT)
    assert reconcile(paths).adopted == 2


@pytest.fixture
def small_disk(mounted: Callable[[int], Path]) -> StatePaths:
    """A state directory on a file system of 12 MiB."""
    return StatePaths(mounted(12) / "state")


def big(number: int) -> NewSample:
    """A frame of 100 kB."""
    return replace(store_worker.frame(number), data=random.Random(number).randbytes(100_000), label=None)


def test_a_disk_that_is_really_full(small_disk: StatePaths) -> None:
    acked: set[str] = set()
    refusals = 0
    # The store believes in free space that is not there, so that it meets the end of the disk itself.
    with opened(small_disk, free_bytes=lambda _path: 1 << 40) as store:
        for number in range(400):
            try:
                acked.add(store.add_sample(big(number)).result(WAIT).id)
            except StoreFull:
                refusals += 1
                if refusals == 5:
                    break
        assert refusals == 5
        assert len(acked) > 50
        assert set(rows(small_disk)) >= acked
    reconcile(small_disk)
    found = rows(small_disk)
    assert acked <= set(found)
    for identifier in acked:
        number = int(identifier.rsplit("-", 1)[1])
        assert (small_disk.root / found[identifier]["path"]).read_bytes() == big(number).data


def test_a_floor_keeps_a_small_disk_usable(small_disk: StatePaths) -> None:
    with opened(small_disk, min_free_bytes=2 << 20) as store:
        for number in range(300):
            assert store.add_sample(big(number)).result(WAIT).kept
            assert store.snapshot().free_bytes > 1 << 20
    consistent(small_disk)
    kept = sorted(row["seq"] for row in rows(small_disk).values())
    assert kept[-1] == 299
    assert len(kept) > 30, "evicts no more than needed"


def check_visible_files(paths: StatePaths) -> None:
    """Whatever has its final name has its whole content."""
    for name in files(paths):
        path = paths.root / name
        if path.name.startswith("."):
            continue
        label = name.endswith(".label.png")
        number = int(path.name.removesuffix(".label.png").removesuffix(".png").rsplit("-", 1)[1])
        assert path.read_bytes() == store_worker.png(number, 1 if label else 3), name


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "quota"), [(10, 1 << 30), (4, 500_000)])
def test_kill_9_breaks_no_promise(paths: StatePaths, kills: int, quota: int) -> None:
    chance = random.Random(kills)
    acked: set[int] = set()
    labelled: set[int] = set()
    first = 0
    for _ in range(kills):
        with subprocess.Popen(
            [sys.executable, str(WORKER), str(paths.root), str(first), str(quota)],
            stdout=subprocess.PIPE,
            text=True,
        ) as worker:
            assert worker.stdout is not None
            lines = [worker.stdout.readline() for _ in range(chance.randrange(1, 120))]
            worker.kill()
            lines += worker.stdout.readlines()
        for line in lines:
            assert line.endswith("\n")
            word, number = line.split()
            (acked if word == "ack" else labelled).add(int(number))
        check_visible_files(paths)
        report = reconcile(paths)
        assert report.index == "sound"
        assert (report.removed, report.unreadable, report.unknown) == (0, 0, 0)
        consistent(paths)
        first = max(acked) + 100
    assert len(acked) > kills
    assert labelled
    if quota == 1 << 30:
        found = rows(paths)
        for number in acked:
            row = found[store_worker.frame(number).id]
            assert (row["label_path"] is not None) or number % 3 != 0
        assert all(
            found[store_worker.frame(number).id]["classes"] == f"[{number % 11}]" for number in labelled
        )
