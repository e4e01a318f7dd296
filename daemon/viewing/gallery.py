"""Pages of stored samples, and all that is known of one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from dance_ondevice.daemon.curation.lineage import versions_knowing

__all__ = ["PAGE", "Filter", "cameras", "newest", "page", "sample"]

#: Samples of one page.
PAGE = 24
_COLUMNS = (
    "id, camera, captured_at, width, height, native_width, native_height, score, scale, reason, "
    "label_source, label_path is not null as labelled, split, condition, uncertainty, rounds_used, arrival"
)
_UNDECIDED = "none"


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which samples are shown; an empty text or None leaves a criterion out.

    Attributes:
        camera: Name of the camera.
        condition: Name of the condition.
        labelled: Whether they have a label.
        source: Source of the label.
        split: The split, or ``none`` where it is not decided.
        unreadable: Only samples that cannot be read.
    """

    camera: str = ""
    condition: str = ""
    labelled: bool | None = None
    source: str = ""
    split: str = ""
    unreadable: bool = False

    def where(self) -> tuple[str, dict[str, object]]:
        """The condition in SQL, and its values."""
        terms, values = ["1"], dict[str, object]()
        for column, value in (
            ("camera", self.camera),
            ("condition", self.condition),
            ("label_source", self.source),
        ):
            if value:
                terms.append(f"{column} = :{column}")
                values[column] = value
        if self.labelled is not None:
            terms.append(f"label_path is {'not ' if self.labelled else ''}null")
        if self.split == _UNDECIDED:
            terms.append("split is null")
        elif self.split:
            terms.append("split = :split")
            values["split"] = self.split
        if self.unreadable:
            terms.append("unreadable is not null")
        return " and ".join(terms), values


def page(
    db: Database, wanted: Filter, *, before: int | None = None, after: int | None = None
) -> dict[str, Any]:
    """One page of samples, the last stored first.

    Pages begin at a sample's number of arrival and not at a count, so that the index leads to any of them
    at once and new samples do not shift them.

    Args:
        db: The index.
        wanted: Which samples.
        before: Only samples that arrived before this number.
        after: The samples that arrived next after this number.

    Returns:
        ``samples``, and the numbers of ``older`` and ``newer`` pages, None where there is none.
    """
    where, values = wanted.where()
    if after is not None:
        rows = list(
            db.query(
                f"select {_COLUMNS} from samples where {where} and arrival > :after "
                f"order by arrival limit {PAGE}",
                {**values, "after": after},
            )
        )[::-1]
    else:
        bound = "and arrival < :before " if before is not None else ""
        rows = list(
            db.query(
                f"select {_COLUMNS} from samples where {where} {bound}order by arrival desc limit {PAGE}",
                {**values, "before": before} if before is not None else values,
            )
        )
    if not rows:
        return {"samples": [], "older": None, "newer": None}
    first, last = rows[0]["arrival"], rows[-1]["arrival"]

    def exists(comparison: str, number: int) -> bool:
        found = db.execute(
            f"select 1 from samples where {where} and arrival {comparison} :number limit 1",
            {**values, "number": number},
        )
        return found.fetchone() is not None

    return {
        "samples": rows,
        "older": last if exists("<", last) else None,
        "newer": first if exists(">", first) else None,
    }


def cameras(db: Database) -> list[str]:
    """Names of the cameras with stored samples; each is found by a step in the index, not by a scan."""
    found: list[str] = []
    while True:
        row = db.execute(
            "select camera from samples where camera > ? order by camera limit 1",
            [found[-1] if found else ""],
        ).fetchone()
        if row is None:
            return found
        found.append(row[0])


def newest(db: Database, cameras: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """The ``id`` and ``path`` of the newest stored sample of each of the cameras that has one."""
    found: dict[str, Mapping[str, Any]] = {}
    for camera in cameras:
        row = next(
            db.query(
                "select id, path from samples where camera = ? and unreadable is null "
                "order by captured_at desc limit 1",
                [camera],
            ),
            None,
        )
        if row is not None:
            found[camera] = row
    return found


def sample(db: Database, identifier: str) -> Mapping[str, Any] | None:
    """All that is known of a sample, with the rounds that used it and the versions that know it."""
    row = next(db.query("select * from samples where id = ?", [identifier]), None)
    if row is None:
        return None
    rounds = db.query(
        "select rounds.id as round, role, outcome, started_at from round_samples "
        "join rounds on rounds.id = round_id where sample_id = ? order by started_at",
        [identifier],
    )
    return {
        **row,
        "classes": json.loads(row["classes"]) if row["classes"] else [],
        "rounds": list(rounds),
        "versions": versions_knowing(db, [identifier]),
    }
