"""The files of a group of samples are flushed together; what fails takes only its own with it."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from stored import files, label_png, new_sample, rows

from dance_ondevice.daemon.energy.service import CpuAccount
from dance_ondevice.daemon.store.samples import StoreError
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.system.workers import Workers
from dance_ondevice.files import is_leftover, leftover_of

WAIT = 30.0


@pytest.fixture
def group(paths: StatePaths) -> Store:
    """A store that is not started: what is asked of it until then is one group."""
    return Store(paths, quota_bytes=1 << 30, min_free_bytes=0)


def name_of(descriptor: int) -> str:
    return Path(f"/proc/self/fd/{descriptor}").readlink().name


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_all_files_are_flushed_at_once_and_before_any_has_its_name(
    group: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = threading.Barrier(6, timeout=WAIT)
    events: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        if is_leftover(name_of(descriptor)):
            meeting.wait()  # breaks if one is waited for before the next is begun
            events.append("flush")
        fsync(descriptor)

    def note_rename(self: Path, target: Path) -> Path:
        events.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_rename)
    futures = [group.add_sample(new_sample(seq, label=(1,))) for seq in range(3)]
    group.start()
    assert all(future.result(WAIT).kept for future in futures)
    assert group.stop(WAIT)
    assert events == ["flush"] * 6 + ["rename"] * 6


def test_it_is_told_once_that_all_of_a_group_are_answered(group: Store) -> None:
    told: list[list[bool]] = []
    futures = [group.add_sample(new_sample(seq)) for seq in range(3)]
    group.after_groups(lambda: told.append([future.done() for future in futures]))
    group.start()
    for future in futures:
        future.result(WAIT)
    assert group.stop(WAIT)
    assert told[0] == [True] * 3


def test_the_second_label_of_a_group_goes_over_the_first(group: Store, paths: StatePaths) -> None:
    sample = new_sample(1, label=(1,))
    futures = [
        group.add_sample(sample),
        group.add_label(sample.id, label_png(16, 12, (2,)), (2,), "import"),
        group.add_label(sample.id, label_png(16, 12, (3, 4)), (3, 4), "import"),
    ]
    group.start()
    for future in futures:
        future.result(WAIT)
    assert group.stop(WAIT)
    (row,) = rows(paths).values()
    assert row["classes"] == "[3, 4]"
    assert (paths.root / row["label_path"]).read_bytes() == label_png(16, 12, (3, 4))
    assert row["bytes"] == sum((paths.root / name).stat().st_size for name in files(paths))


def test_an_image_that_fails_leaves_nothing_of_itself_its_label_and_its_copies(
    group: Store, paths: StatePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = new_sample(1), new_sample(2, label=(1,))
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if leftover_of(name_of(descriptor)) == f"{bad.id}.png":
            raise OSError(errno.EIO, "the medium failed")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    open_before = open_files()
    lost = [
        group.add_sample(bad),
        group.add_label(bad.id, label_png(16, 12), (1, 2), "import"),
        group.add_sample(bad),
    ]
    kept = group.add_sample(good)
    group.start()
    for future in lost:
        with pytest.raises(StoreError):
            future.result(WAIT)
    assert kept.result(WAIT).kept
    assert group.stop(WAIT)
    assert open_files() == open_before
    assert set(rows(paths)) == {good.id}
    assert len(files(paths)) == 2


def test_workers_finish_what_they_began_and_cancel_the_rest() -> None:
    workers, begun, go = Workers("test", 1), threading.Event(), threading.Event()

    def first() -> str:
        begun.set()
        assert go.wait(WAIT)
        return "done"

    running, waiting = workers.submit(first), workers.submit(lambda: "never")
    assert begun.wait(WAIT)
    waiting.add_done_callback(lambda _: go.set())
    assert workers.close(WAIT)
    assert waiting.cancelled()
    assert running.result(0) == "done"
    with pytest.raises(RuntimeError, match="closed"):
        workers.submit(lambda: None)


def test_what_a_job_raises_is_for_whoever_asked_and_the_thread_goes_on() -> None:
    workers = Workers("test", 1)
    with pytest.raises(ZeroDivisionError):
        workers.submit(lambda: 1 // 0).result(WAIT)
    assert workers.submit(lambda: 2).result(WAIT) == 2
    assert workers.close(WAIT)


def test_cpu_time_of_workers_is_ingest() -> None:
    workers = Workers("ingest-work", 1)
    account = CpuAccount(Path("/proc"), dict(workers.threads()))
    assert account.seconds()["ingest"] == 0.0

    def burn() -> None:
        end = os.times().user + 0.1
        while os.times().user < end:
            sum(range(1000))

    workers.submit(burn).result(WAIT)
    assert account.seconds()["ingest"] > 0.0
    assert workers.close(WAIT)
