"""A state folder and a running store, and samples to put into it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dance_ondevice.daemon.store.samples import NewSample
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths, sample_id
from dance_ondevice.images import codec as images


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    found = StatePaths(tmp_path / "state")
    for folder in (found.samples, found.models, found.rounds):
        folder.mkdir(parents=True)
    return found


@contextlib.contextmanager
def running_store(paths: StatePaths) -> Iterator[Store]:
    """A store of a state folder, which ends well."""
    running = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    running.start()
    yield running
    assert running.stop(10)
    assert running.failure is None


@pytest.fixture
def store(paths: StatePaths) -> Iterator[Store]:
    with running_store(paths) as running:
        yield running


def new_sample(
    index: int, image: NDArray[np.uint8], label: NDArray[np.uint8] | None = None, **changes: Any
) -> NewSample:
    """Sample ``index`` of the camera "front", captured ``index`` seconds after a fixed time.

    Args:
        index: Its number.
        image: (H, W, 3) uint8 BGR, stored as JPEG.
        label: (H, W) uint8 class ids; None for a sample without a label.
        changes: Other fields of the sample.
    """
    at = 1_700_000_000.0 + index
    height, width = image.shape[:2]
    labelled = label is not None
    sample = NewSample(
        id=sample_id("front", at, index),
        camera="front",
        seq=index,
        captured_at=at,
        received_at=at,
        data=b"" if "data" in changes else images.encode_jpeg(image),
        format="jpg",
        width=width,
        height=height,
        native_width=width,
        native_height=height,
        score=0.5,
        quantile=0.5,
        scale=1.0,
        weight=1.0,
        reason="test",
        label=images.encode_png(label) if label is not None else None,
        label_source="wire" if labelled else None,
        classes=tuple(sorted({int(c) for c in label.ravel()})) if label is not None else None,
    )
    return dataclasses.replace(sample, **changes)
