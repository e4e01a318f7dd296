"""Labelled samples of the index, in the form that policies take, and their fixed splits."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlite_utils import Database

from dance_ondevice.policies.samples.splits import SampleInfo

#: A moment of capture as decisions take it: a frame cannot be newer than its arrival, whatever its sender's
#: clock says.
BOUNDED = "min(captured_at, received_at) as captured_at"
#: Condition of the samples that may train and that no round has used.
UNUSED = "label_path IS NOT NULL AND split = 'train' AND rounds_used = 0 AND unreadable IS NULL"


def make_new(db: Database, sample_id: str) -> None:
    """Make a sample new to the next round, as one whose label has changed is.

    A round that is open may have read the label before: it closes without counting the sample as used.
    """
    db.execute("UPDATE samples SET rounds_used = 0 WHERE id = ?", [sample_id])
    db.execute(
        "UPDATE round_samples SET role = 'relabelled' WHERE sample_id = ? AND role IN ('new', 'rehearsal') "
        "AND EXISTS (SELECT 1 FROM rounds WHERE id = round_id AND outcome IS NULL)",
        [sample_id],
    )


def labelled_samples(db: Database, *, newest: int | None = None) -> list[SampleInfo]:
    """The labelled samples that can be read, oldest first, in the form that the round policy takes.

    Args:
        db: The index.
        newest: Only so many, the last that were stored; None for every one.
    """
    # A few sets of classes, cameras and conditions occur over and over. Kept once each, they leave a list
    # of a third of the size.
    once: dict[str, str] = {}
    classes_of: dict[str, frozenset[int]] = {}

    def one(value: str) -> str:
        return once.setdefault(value, value)

    def classes(text: str) -> frozenset[int]:
        if text not in classes_of:
            classes_of[text] = frozenset(json.loads(text))
        return classes_of[text]

    last = "id in (select id from samples where label_path is not null order by arrival desc limit :newest)"
    rows = db.query(
        f"select id, camera, {BOUNDED}, score, weight, split, rounds_used, classes, uncertainty, condition, "
        "signature, label_source from samples where label_path is not null and unreadable is null "
        f"{'' if newest is None else f'and {last} '}order by 3, id",
        {} if newest is None else {"newest": newest},
    )
    return [
        SampleInfo(
            id=row["id"],
            camera=one(row["camera"]),
            captured_at=row["captured_at"],
            score=row["score"] or 0.0,
            weight=row["weight"] or 1.0,
            labelled=True,
            split=row["split"],
            rounds_used=row["rounds_used"],
            classes=classes(row["classes"] or "[]"),
            uncertainty=row["uncertainty"],
            condition=one(row["condition"] or ""),
            signature=row["signature"] or "",
            label_source=one(row["label_source"] or ""),
        )
        for row in rows
    ]


def save_splits(db: Database, splits: Mapping[str, str]) -> None:
    """Store the split of each sample (train, gate or guard); a stored split never changes."""
    db.conn.executemany(
        "update samples set split = ? where id = ? and split is null",
        [(split, sample_id) for sample_id, split in splits.items()],
    )
