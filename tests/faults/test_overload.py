"""More frames than the board can take: bounded memory, exact counters, and masks of frames that are new."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from figures import Figures
from overload import growth, overload

from dance_ondevice.benchmarks.robustness.report import Overload

SECONDS = float(os.environ.get("DANCE_OVERLOAD_SECONDS", "8"))


@pytest.mark.slow
@pytest.mark.timeout(300 + SECONDS)
def test_ten_times_what_the_board_takes(tmp_path: Path, figures: Figures) -> None:
    report = overload(tmp_path, SECONDS)
    counted = report.counted
    assert sum(counted.values()) == report.sent, "each frame ends in exactly one outcome"
    assert counted.get("overflow", 0) > 0, "the load was no overload"
    assert counted["kept"] > 0
    assert counted.get("rejected", 0) == 0
    assert report.masks > 0
    # What is shown is what is newest, but for the queue of 64 and those on the wire: a service that took
    # frames in their order would fall behind by all that it has not done.
    behind = report.mask_delays[-1] if report.mask_delays else report.sent
    assert behind < report.sent / 2
    if len(report.resident) >= 6:
        assert growth(report) < 0.2
        figures.overload = Overload(
            seconds=SECONDS,
            capacity=report.capacity,
            offered=report.offered,
            sent=report.sent,
            counted=counted,
            resident_highest=max(report.resident),
            growth=growth(report),
            masks=report.masks,
        )
    print(report)
