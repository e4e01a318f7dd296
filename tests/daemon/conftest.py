"""A store and a model small enough to run whole rounds in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dance_ondevice import images
from dance_ondevice.daemon.state import StatePaths, sample_id
from dance_ondevice.daemon.store import NewSample, Store
from dance_ondevice.datasets.street import StreetCamera

SIZE = (48, 64)


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


@pytest.fixture
def add_street() -> Callable[..., list[str]]:
    """Stores labelled frames of the synthetic street, one second apart."""

    def add(store: Store, count: int, *, start: int = 0, condition: str = "day") -> list[str]:
        camera = StreetCamera(seed=1, height=SIZE[0], width=SIZE[1])
        futures = []
        for index in range(start, start + count):
            image, label = camera.render(index, condition)
            at = 1_700_000_000.0 + index
            futures.append(
                store.add_sample(
                    NewSample(
                        id=sample_id("front", at, index),
                        camera="front",
                        seq=index,
                        captured_at=at,
                        received_at=at,
                        data=images.encode_jpeg(image),
                        format="jpg",
                        width=SIZE[1],
                        height=SIZE[0],
                        native_width=SIZE[1],
                        native_height=SIZE[0],
                        score=0.5,
                        quantile=0.5,
                        scale=1.0,
                        weight=1.0,
                        reason="test",
                        label=images.encode_png(label),
                        label_source="wire",
                        classes=tuple(sorted({int(c) for c in label.ravel()})),
                    )
                )
            )
        return [future.result(30).id for future in futures]

    return add
