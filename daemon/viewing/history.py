"""Rounds, versions and joules of the past, as the pages show them."""

from __future__ import annotations

import json
from typing import Any

from sqlite_utils import Database

__all__ = ["energy_days", "rounds", "version", "versions"]

_ROUNDS = 40
_VERSIONS = 40
_DAYS = 14
_ROUND_COLUMNS = (
    "id, started_at, finished_at, trigger, reason, outcome, reasons, parent, candidate, miou_before, "
    "miou_after, miou_frozen, joules, gross_joules, method, seconds, condition, new_samples, macs_before, "
    "macs_after"
)


def rounds(db: Database) -> list[dict[str, Any]]:
    """The last rounds, newest first."""
    rows = db.query(f"select {_ROUND_COLUMNS} from rounds order by started_at desc, id desc limit {_ROUNDS}")
    return [{**row, "reasons": json.loads(row["reasons"] or "[]")} for row in rows]


def versions(db: Database) -> list[dict[str, Any]]:
    """The last versions, newest first."""
    return list(
        db.query(
            "select version, parent, created_at, status, architecture, macs, parameters, round_id, miou_gate "
            f"from versions order by created_at desc, version desc limit {_VERSIONS}"
        )
    )


def version(db: Database, name: str) -> dict[str, Any] | None:
    """The card of a version, for its gate's tables; None where there is no such version."""
    row = db.execute("select status, card from versions where version = ?", [name]).fetchone()
    if row is None:
        return None
    card = json.loads(row[1] or "{}")
    kept = ("version", "parent", "created_at", "macs", "parameters", "classes", "gate")
    network = card.get("architecture") or card.get("factory")
    facts = {"status": row[0], "energy": card.get("energy"), "architecture": network}
    return {**facts, **{key: card.get(key) for key in kept}}


def energy_days(db: Database) -> list[dict[str, Any]]:
    """Joules of the last days by workload, source and method, newest first."""
    return list(
        db.query(
            "select day, workload, source, method, joules from energy where day in "
            f"(select distinct day from energy order by day desc limit {_DAYS}) "
            "order by day desc, workload, source, method"
        )
    )
