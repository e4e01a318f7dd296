"""A state folder and a running store, for every test that wants them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    found = StatePaths(tmp_path / "state")
    for folder in (found.samples, found.models, found.rounds):
        folder.mkdir(parents=True)
    return found


@pytest.fixture
def store(paths: StatePaths) -> Iterator[Store]:
    running = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    running.start()
    yield running
    assert running.stop(10)
    assert running.failure is None
