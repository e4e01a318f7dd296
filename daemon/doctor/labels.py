"""The doctor's check of the labels: whether every class of the model occurs in some label."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Sequence

from dance_ondevice.daemon.doctor.finding import Check
from dance_ondevice.daemon.store.service import connect_read_only
from dance_ondevice.daemon.system.state import StatePaths

#: Fewer labelled samples than this cannot show every class.
_ENOUGH = 8


def check_labels(paths: StatePaths, classes: Sequence[str]) -> Check | None:
    """Check that each class has pixels in some label; None where there is no readable index."""
    try:
        with contextlib.closing(connect_read_only(paths.database)) as connection:
            rows = connection.execute(
                "SELECT classes, count(*) FROM samples WHERE label_path IS NOT NULL GROUP BY classes"
            ).fetchall()
    except sqlite3.Error:
        return None  # reported by the check of the database
    count = sum(row[1] for row in rows)
    seen = {int(i) for row in rows for i in json.loads(row[0] or "[]")}
    missing = [name for index, name in enumerate(classes) if index not in seen]
    if not missing or count < _ENOUGH:
        return Check("labels", "ok", f"{count} samples have one")
    detail = f"no pixel of {', '.join(missing)} in any of {count} labels: nothing can be learnt of it"
    remedy = "where masks hold 255 for a class: 255 is ignore; map it with `labels import --class-map`"
    return Check("labels", "warning", detail, remedy)
