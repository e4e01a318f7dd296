"""Reads the records in the daemon's state directory as values of the report."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dance_ondevice.daemon.store.service import open_reader
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.demo.reporting.report import Round, Version


@dataclass(frozen=True, kw_only=True)
class Records:
    """Contents of the store's tables at one moment.

    Attributes:
        kept_by_scale: Number of stored samples by the scale at which they are stored.
        labelled: Number of stored samples that have a label.
    """

    rounds: tuple[Round, ...]
    versions: tuple[Version, ...]
    kept_by_scale: Mapping[float, int]
    labelled: int


def read(paths: StatePaths, phase_at: Callable[[float], str]) -> Records:
    """Read everything that the report shows.

    Args:
        paths: The state directory; the daemon may run or have ended.
        phase_at: Gives the name of the phase at a wall-clock time in seconds.

    Raises:
        StoreError: There is no index.
    """
    db = open_reader(paths)
    try:
        return Records(
            rounds=tuple(
                _round(row, phase_at(row["started_at"]))
                for row in db.query("select * from rounds where outcome is not null order by started_at")
            ),
            versions=tuple(_version(row) for row in db.query("select * from versions order by version")),
            kept_by_scale={
                row["scale"]: row["n"]
                for row in db.query("select scale, count(*) as n from samples group by scale")
            },
            labelled=next(iter(db.query("select count(*) as n from samples where label_path is not null")))[
                "n"
            ],
        )
    finally:
        db.close()


def conditions(paths: StatePaths, phase_at: Callable[[float], str]) -> dict[str, str]:
    """The most frequent condition of the stored samples by phase, as the service named it."""
    found: dict[str, Counter[str]] = {}
    with contextlib.closing(open_reader(paths)) as db:
        for row in db.query("select received_at, condition from samples where condition is not null"):
            found.setdefault(phase_at(row["received_at"]), Counter())[row["condition"]] += 1
    return {phase: names.most_common(1)[0][0] for phase, names in found.items()}


def outcomes(paths: StatePaths, since: float) -> list[str | None]:
    """Outcomes of the rounds started at or after a wall-clock time, oldest first; None for a running one."""
    db = open_reader(paths)
    try:
        rows = db.query("select outcome from rounds where started_at >= ? order by started_at", [since])
        return [row["outcome"] for row in rows]
    finally:
        db.close()


def _round(row: Mapping[str, Any], phase: str) -> Round:
    return Round(
        id=row["id"],
        phase=phase,
        trigger=row["trigger"] or "",
        reason=row["reason"] or "",
        outcome=row["outcome"],
        reasons=tuple(json.loads(row["reasons"] or "[]")),
        parent=row["parent"],
        candidate=row["candidate"],
        miou_before=row["miou_before"],
        miou_after=row["miou_after"],
        miou_frozen=row["miou_frozen"],
        joules=row["joules"],
        gross_joules=row["gross_joules"],
        method=row["method"],
        steps=row["steps"],
        seconds=row["seconds"],
        macs_before=row["macs_before"],
        macs_after=row["macs_after"],
    )


def _version(row: Mapping[str, Any]) -> Version:
    return Version(
        version=row["version"],
        parent=row["parent"],
        status=row["status"],
        macs=row["macs"] or 0,
        parameters=row["parameters"] or 0,
        miou_gate=row["miou_gate"],
    )
