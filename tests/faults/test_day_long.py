"""A day at accelerated time: what it leaves behind is consistent.

Ten thousand frames from midnight to midnight (``DANCE_DAY_FRAMES``; ``make faults`` sets it, fewer in the
short form) through light that changes, rounds all along, trainers and daemons killed and stopped amid them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from day import LongDay
from day_books import check_ledger, check_leftovers, check_rounds, check_store, check_versions
from figures import Figures

from dance_ondevice.benchmarks.robustness.report import DayReport

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

FRAMES = int(os.environ.get("DANCE_DAY_FRAMES", "1000"))
#: With so many frames chance has no part in what must have happened.
LONG = 5000


@pytest.fixture
def lived(tmp_path: Path) -> Iterator[LongDay]:
    """A day that is over."""
    lived = LongDay(tmp_path, FRAMES)
    try:
        lived.live()
        yield lived
    finally:
        lived.kill_all()


def test_a_day_of_drift_restarts_and_killed_rounds_ends_consistent(lived: LongDay, figures: Figures) -> None:
    day = lived.day
    # What the counters of each life were compared with while it lived.
    assert day.final.keys() == set(range(FRAMES))
    answers = Counter(day.final.values())
    assert answers["kept"] == len(day.promises.kept)
    assert answers["kept"] + answers["dropped"] == FRAMES
    assert day.promises.sent == FRAMES + day.sent_again
    assert day.promises.answers.total() <= day.promises.sent

    store = check_store(lived)
    outcomes = check_rounds(lived)
    ledger = check_ledger(lived)
    statuses = check_versions(lived)
    check_leftovers(lived.paths.root)
    assert "Traceback" not in lived.daemon.log.read_text()

    # It was a day worth the name.
    assert store["evicted"] > 0
    assert lived.killed_rounds
    assert lived.ends["SIGTERM amid a round"] > 0
    assert lived.ends["SIGKILL amid a round"] > 0
    assert outcomes["promoted"] > 0
    if FRAMES >= LONG:
        assert lived.ends["SIGKILL with a candidate born"] > 0
        assert lived.logged(r"round resumed round=(\S+)")
        assert lived.logged(r"drift camera=\S+ signal=(\S+)")
        assert lived.conditions > {"base"}
    figures.day = DayReport(
        frames=FRAMES,
        lives=len(lived.logged(r" ready (ingest=)")),
        ends=dict(lived.ends),
        killed_trainers=len(lived.killed_rounds),
        kept=len(day.promises.kept),
        stored=store["stored"],
        evicted=store["evicted"],
        lost=0,  # each of its lives would have ended the test
        rounds=dict(outcomes),
        resumes=len(lived.logged(r"round resumed round=(.+)")),
        entries=int(ledger["entries"]),
        reserved=int(ledger["crashed"]),
        joules=ledger["joules"],
        versions=dict(statuses),
        conditions=tuple(sorted(lived.conditions)),
        drift_alarms=len(lived.logged(r"drift camera=(.+)")),
    )
    print(figures.day, f"sent_again={day.sent_again}")
