"""What models are judged on follows the stream: the newest held-out samples stay, older ones make room."""

from __future__ import annotations

import pytest
from stored import new_sample, rows

from dance_ondevice.daemon.store.quota import KEEP_HELD_OUT
from dance_ondevice.daemon.store.samples import StoreFull
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths


def fill(store: Store, count: int, *, split: str) -> None:
    futures = [store.add_sample(new_sample(seq, label=(1, 2))) for seq in range(count)]
    for future in futures:
        future.result(30)
    store.submit(lambda db: db.execute("update samples set split = ?", [split])).result()


def full(store: Store, paths: StatePaths) -> None:
    """From here on every new sample needs another one's place."""
    used = sum(row["bytes"] for row in rows(paths).values())
    store.set_limits(quota_bytes=used, min_free_bytes=0).result()


def test_the_oldest_held_out_samples_leave_once_there_are_several_gates_full(
    store: Store, paths: StatePaths
) -> None:
    fill(store, KEEP_HELD_OUT + 6, split="gate")
    full(store, paths)
    store.add_sample(new_sample(1000, label=(1, 2))).result(30)
    left = sorted(row["seq"] for row in rows(paths).values())
    assert 1000 in left
    gone = set(range(KEEP_HELD_OUT + 6)) - set(left)
    assert gone
    assert gone == set(range(len(gone)))
    assert len(gone) <= 6


def test_the_newest_held_out_samples_never_go(store: Store, paths: StatePaths) -> None:
    fill(store, 5, split="gate")
    full(store, paths)
    with pytest.raises(StoreFull):
        store.add_sample(new_sample(1000, label=(1, 2))).result(30)
    assert len(rows(paths)) == 5
