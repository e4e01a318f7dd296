"""What ``bench demo`` measures, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DemoRun:
    """One demonstration.

    Attributes:
        status: exit status of the command.
        seconds: that it took, by the wall clock.
        load: load average of the last minute, before and after.
        epochs: that the first model was pretrained for.
        rounds: rounds by outcome.
        gains: by phase, the live model's mIoU at its end over the first one's, with bounds.
        shortcomings, notes: what it said of itself.
    """

    seed: int
    status: int
    seconds: float
    load: tuple[float, float]
    epochs: int
    rounds: Mapping[str, int]
    gains: Mapping[str, tuple[float, float | None, float | None]]
    shortcomings: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class DemoRuns:
    """Demonstrations beside ``busy`` processes that compute all the time."""

    busy: int
    runs: Sequence[DemoRun]


def read_run(report: Mapping[str, Any], *, status: int, seconds: float, load: tuple[float, float]) -> DemoRun:
    """The values of one ``report.json``; empty ones where the demonstration left none."""
    outcomes = [one["outcome"] for one in report.get("rounds", ())]
    return DemoRun(
        seed=report.get("seed", -1),
        status=status,
        seconds=seconds,
        load=load,
        epochs=report.get("pretraining_epochs", 0),
        rounds={outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
        gains={
            p["name"]: (p["gain"]["point"], p["gain"]["lower"], p["gain"]["upper"])
            for p in report.get("phases", ())
        },
        shortcomings=report.get("shortcomings", ("no report",)),
        notes=report.get("notes", ()),
    )
