"""What the ledger of rounds holds, for tests."""

from __future__ import annotations

from sqlite_utils import Database


def spent_since(db: Database, t: float) -> float:
    """Gross joules of entries closed at wall-clock second ``t`` or later, and all that is reserved now."""
    row = db.execute(
        "SELECT coalesce(sum(coalesce(settled_joules, reserved_joules)), 0.0) FROM ledger "
        "WHERE closed_at IS NULL OR closed_at >= ?",
        [t],
    ).fetchone()
    return float(row[0])
