"""Samples made up for tests of the store, stores that are opened for a moment, and what they left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dance_ondevice.daemon.store.samples import NewSample
from dance_ondevice.daemon.store.service import Store, open_reader
from dance_ondevice.daemon.system.state import StatePaths, sample_id
from dance_ondevice.images import codec as images

START = 1_760_000_000.25
#: Seconds that an operation of the store may take.
WAIT = 30


def png(width: int, height: int, seed: int = 0) -> bytes:
    """A small picture of noise."""
    return images.encode_png(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def label_png(width: int, height: int, classes: Sequence[int] = (1, 2)) -> bytes:
    """A label in which each of the classes occurs."""
    mask = np.full((height, width), 255, dtype=np.uint8)
    mask.flat[: len(classes)] = classes
    return images.encode_png(mask)


def new_sample(
    seq: int = 0,
    *,
    camera: str = "front",
    at: float | None = None,
    label: Sequence[int] | None = None,
    **changes: Any,
) -> NewSample:
    """A 16x12 PNG frame, one a second; ``label`` gives the classes of a label to come with it."""
    captured_at = START + seq if at is None else at
    sample = NewSample(
        id=sample_id(camera, captured_at, seq),
        camera=camera,
        seq=seq,
        captured_at=captured_at,
        received_at=captured_at + 1,
        data=png(16, 12, seed=seq),
        format="png",
        width=16,
        height=12,
        native_width=16,
        native_height=12,
        score=0.5,
        quantile=0.6,
        scale=1.0,
        weight=1.1,
        reason="detailed",
        label=None if label is None else label_png(16, 12, label),
        label_source=None if label is None else "sender",
        classes=None if label is None else tuple(label),
    )
    return replace(sample, **changes)


def rows(paths: StatePaths, table: str = "samples", key: str = "id") -> dict[str, dict[str, Any]]:
    """Every row of a table by its key, read as another process would."""
    db = open_reader(paths)
    try:
        return {row[key]: row for row in db.table(table).rows}
    finally:
        db.close()


def files(paths: StatePaths) -> list[str]:
    """Every file under samples, relative to the state directory."""
    return sorted(str(path.relative_to(paths.root)) for path in paths.samples.rglob("*") if path.is_file())


def total_bytes(paths: StatePaths) -> int:
    """What the files under samples take."""
    return sum((paths.root / name).stat().st_size for name in files(paths))


def only_file(folder: Path) -> Path:
    """The one file under a folder."""
    (found,) = [path for path in folder.rglob("*") if path.is_file()]
    return found


def image_of(paths: StatePaths, sample: NewSample) -> Path:
    """Where a sample's image lies."""
    return paths.sample_dir(sample.camera, sample.captured_at) / f"{sample.id}.{sample.format}"


@contextmanager
def opened(paths: StatePaths, **options: Any) -> Iterator[Store]:
    """A store that runs, and has not failed when it is left; without a quota unless ``options`` say one."""
    store = Store(paths, **{"quota_bytes": 1 << 30, "min_free_bytes": 0, **options})
    store.start()
    try:
        yield store
    finally:
        assert store.stop(WAIT)
        assert store.failure is None


def with_store(paths: StatePaths, act: Callable[[Store], Any]) -> None:
    """Run a store for what ``act`` asks of it: a future or a list of them, of which none may fail."""
    with opened(paths) as store:
        futures = act(store)
    for future in futures if isinstance(futures, list) else [futures]:
        future.result(0)


def keep(paths: StatePaths, samples: Sequence[NewSample]) -> None:
    """Store samples."""
    with_store(paths, lambda store: [store.add_sample(sample) for sample in samples])


def execute(paths: StatePaths, sql: str) -> None:
    """Change the index behind the store's back."""
    with_store(paths, lambda store: store.submit(lambda db: db.execute(sql)))


def totals(paths: StatePaths) -> tuple[int, ...]:
    """Labelled samples, unlabelled samples and bytes, as the index counts them."""
    db = open_reader(paths)
    try:
        return tuple(db.execute("SELECT labelled, unlabelled, bytes FROM sample_totals").fetchone())
    finally:
        db.close()
