"""What the fault tests measure, collected over a run of pytest and written as a result of ``make faults``."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from dance_ondevice.benchmarks.options import made_here
from dance_ondevice.benchmarks.result import write_result
from dance_ondevice.benchmarks.robustness.report import (
    DayReport,
    Disk,
    FaultsReport,
    FleetKills,
    Kills,
    Overload,
)

#: What the synthetic street is made from, in every test.
STREET_SEED = 3
#: How much of it a run does, in the words of the Makefile.
_SIZES = ("FAULT_KILLS", "DAY_FRAMES", "OVERLOAD_SECONDS", "FAULT_PRIORITY")


class Figures:
    """Grows while the tests run."""

    def __init__(self) -> None:
        self.tests: Counter[str] = Counter()
        self.kills: list[Kills] = []
        self.fleet: list[FleetKills] = []
        self.disks: list[Disk] = []
        self.overload: Overload | None = None
        self.day: DayReport | None = None

    def write(self, path: Path, note: str) -> None:
        """Write what there is."""
        sizes = [f"{name}={os.environ[key]}" for name in _SIZES if (key := f"DANCE_{name}") in os.environ]
        about = made_here(
            "faults",
            " ".join(["make faults", *sizes]),
            f"synthetic street frames, 64x48, seed {STREET_SEED}, and noise of 320x240 for the overload",
            seed=STREET_SEED,
            note=note,
        )
        report = FaultsReport(
            tests=dict(self.tests),
            kills=tuple(self.kills),
            fleet=tuple(self.fleet),
            disks=tuple(self.disks),
            overload=self.overload,
            day=self.day,
        )
        write_result(path, about, report)
