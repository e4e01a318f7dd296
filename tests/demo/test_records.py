from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dance_ondevice.daemon.store.samples import NewSample, StoreError
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.demo import records
from dance_ondevice.images import codec as images

PIXELS = b"\xff\xd8 not looked at here"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    running = Store(StatePaths(tmp_path), quota_bytes=1 << 30, min_free_bytes=0)
    running.start()
    yield running
    assert running.stop(10)


def add(store: Store, number: int, scale: float, label: bytes | None = None) -> None:
    sample = NewSample(
        id=f"c-{1000000 * number}-{number}",
        camera="c",
        seq=number,
        captured_at=float(number),
        received_at=float(number),
        data=PIXELS,
        format="jpg",
        width=2,
        height=2,
        native_width=2,
        native_height=2,
        score=0.5,
        quantile=0.5,
        scale=scale,
        weight=1.0,
        reason="test",
        label=label,
        label_source="frame" if label else None,
        classes=(0,) if label else None,
    )
    store.add_sample(sample).result(10)


def insert(store: Store, table: str, **row: object) -> None:
    store.submit(lambda db: db.table(table).insert(row)).result(10)


def test_reads_what_the_store_holds(store: Store, tmp_path: Path) -> None:
    label = images.encode_png(np.zeros((2, 2), np.uint8))
    for number, scale in enumerate((1.0, 1.0, 0.5), start=1):
        add(store, number, scale, label if number == 1 else None)
    insert(
        store,
        "rounds",
        id="r1",
        started_at=15.0,
        finished_at=20.0,
        outcome="promoted",
        reasons=json.dumps(["better", "smaller"]),
        parent="v0001",
        candidate="v0002",
        miou_before=0.4,
        miou_after=0.5,
        joules=12.5,
        method="modelled",
    )
    insert(store, "rounds", id="r2", started_at=25.0)
    insert(store, "versions", version="v0001", status="retired", macs=100, parameters=10)
    insert(
        store,
        "versions",
        version="v0002",
        status="live",
        macs=90,
        parameters=9,
        parent="v0001",
        miou_gate=0.5,
    )

    found = records.read(StatePaths(tmp_path), lambda moment: "dusk" if moment >= 10 else "day")

    assert found.kept_by_scale == {1.0: 2, 0.5: 1}
    assert found.labelled == 1
    (only,) = found.rounds
    assert (only.id, only.phase, only.outcome, only.reasons) == (
        "r1",
        "dusk",
        "promoted",
        ("better", "smaller"),
    )
    assert (only.miou_before, only.miou_after, only.joules, only.method) == (0.4, 0.5, 12.5, "modelled")
    assert [(v.version, v.parent, v.macs, v.miou_gate) for v in found.versions] == [
        ("v0001", None, 100, None),
        ("v0002", "v0001", 90, 0.5),
    ]


def test_outcomes_are_those_of_rounds_that_started_since(store: Store, tmp_path: Path) -> None:
    insert(store, "rounds", id="early", started_at=10.0, outcome="rejected")
    insert(store, "rounds", id="late", started_at=30.0, outcome="promoted")
    insert(store, "rounds", id="running", started_at=40.0)

    assert records.outcomes(StatePaths(tmp_path), 20.0) == ["promoted", None]
    assert records.outcomes(StatePaths(tmp_path), 5.0) == ["rejected", "promoted", None]


def test_a_missing_index_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        records.outcomes(StatePaths(tmp_path / "none"), 0.0)


def test_each_phase_has_the_light_that_most_of_its_samples_were_taken_in(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path)
    with contextlib.closing(sqlite3.connect(paths.database)) as db:
        db.execute("create table samples (received_at real, condition text)")
        rows = [(1, "base"), (2, "base"), (10, "base"), (11, "c1"), (12, "c1"), (20, None)]
        db.executemany("insert into samples values (?, ?)", rows)
        db.commit()
    found = records.conditions(paths, lambda at: "day" if at < 10 else "dusk" if at < 20 else "rain")
    assert found == {"day": "base", "dusk": "c1"}
