from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dance_ondevice.daemon.children.counts import (
    Counts,
    SampleCapture,
    counts_file,
    read_counts,
    write_counts,
)
from dance_ondevice.daemon.rounds import gate_table


def counts(identifier: str, hits: int, truth: int = 100) -> Counts:
    return Counts(id=identifier, truth=(truth, 0), predicted=(hits, truth - hits), hits=(hits, 0))


CAPTURES = {f"s{i}": SampleCapture(camera="front", captured_at=10.0 * i) for i in range(8)}


def build(folder: Path, **changes: Any) -> gate_table.GateTable:
    settings: dict[str, Any] = {
        "new_since": {"front": 40.0},
        "block_seconds": 5.0,
        "confidence": 0.9,
        "seed": 0,
    }
    return gate_table.build(folder, **{"captures": CAPTURES, **settings, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Old samples get worse, new ones better."""
    write_counts(counts_file(tmp_path, "live"), [counts(f"s{i}", 50) for i in range(8)])
    write_counts(
        counts_file(tmp_path, "candidate"),
        [counts(f"s{i}", 40 if i < 4 else 90) for i in reversed(range(8))],
    )
    return tmp_path


def test_old_and_new_scenes_are_compared_on_their_own(folder: Path) -> None:
    table = build(folder)
    assert table.whole is not None
    assert (table.whole.samples, table.whole.units, table.whole.unit) == (8, 8, "block")
    assert table.whole.gain.point == pytest.approx(0.15)
    groups = {group.name: group.comparison for group in table.groups}
    assert {name: found.gain.point for name, found in groups.items()} == pytest.approx(
        {"camera front, earlier": -0.1, "camera front, recent": 0.4}
    )
    words = gate_table.in_words(table, ("sky", "road"))
    assert words["gain"] == pytest.approx(0.15)
    assert [row["class"] for row in words["classes"]] == ["sky"]
    assert [group["name"] for group in words["groups"]] == ["camera front, earlier", "camera front, recent"]


def test_conditions_come_before_age(folder: Path) -> None:
    captures = {
        i: SampleCapture(camera="front", captured_at=0.0, condition="dusk" if i > "s3" else "day")
        for i in CAPTURES
    }
    table = build(folder, captures=captures)
    assert [group.name for group in table.groups] == ["condition day", "condition dusk"]
    # All at the same second: no blocks to draw from, but samples.
    assert table.whole is not None
    assert table.whole.unit == "sample"


def test_one_group_is_no_group(folder: Path) -> None:
    assert build(folder, new_since={"front": -1.0}).groups == ()


def test_samples_that_are_gone_since_count_on_their_own(folder: Path) -> None:
    table = build(folder, captures={i: place for i, place in CAPTURES.items() if i > "s1"})
    assert table.whole is not None
    assert table.whole.units == 8
    assert "samples that are gone" in [group.name for group in table.groups]


@pytest.mark.parametrize("content", [None, b"", b"[[]]", b'{"a": 1}'])
def test_without_the_counts_there_is_no_table(folder: Path, content: bytes | None) -> None:
    file = counts_file(folder, "candidate")
    file.unlink() if content is None else file.write_bytes(content)
    table = build(folder)
    assert table.whole is None
    assert gate_table.in_words(table, ("sky", "road")) == {}


def test_a_sample_whose_label_changed_in_between_is_not_compared(folder: Path) -> None:
    file = counts_file(folder, "candidate")
    found = read_counts(file)
    write_counts(file, [counts("s0", 10, truth=200), *(c for c in found if c.id != "s0")])
    table = build(folder)
    assert table.whole is not None
    assert table.whole.samples == 7
