from __future__ import annotations

from dance_ondevice.benchmarks.robustness.page import faults_lines, soak_lines
from dance_ondevice.benchmarks.robustness.report import (
    DayReport,
    Disk,
    FaultsReport,
    Kills,
    Overload,
    SoakReport,
)

SOAK = SoakReport(
    seconds=3600.0,
    looks=900,
    warm_up=1 / 3,
    resident_median=400 << 20,
    resident_highest=432 << 20,
    growth=0.0123,
    descriptors=32,
    descriptors_more=0,
    threads=35,
    threads_more=-1,
    frames={"kept": 7, "dropped": 3},
    rounds={"promoted": 2, "failed": 1},
    failures=("r1: no memory",),
    conditions=("base", "rain"),
    load=2.5,
)
FAULTS = FaultsReport(
    tests={"passed": 9, "failed": 1},
    kills=(Kills(of="daemon", kills=200, sent=5000, kept=4000, lost=0, refunds=0),),
    disks=(Disk(fault="ENOSPC at write", refused=5, kept=400, lost=0),),
    overload=Overload(
        seconds=600.0,
        capacity=100.0,
        offered=1000.0,
        sent=1000,
        counted={"kept": 100, "overflow": 899},
        resident_highest=100 << 20,
        growth=0.05,
        masks=60,
    ),
    day=DayReport(
        frames=10_000,
        lives=25,
        ends={"SIGKILL": 16},
        killed_trainers=8,
        kept=6000,
        stored=500,
        evicted=5500,
        lost=0,
        rounds={"promoted": 20},
        resumes=7,
        entries=60,
        reserved=5,
        joules=1234.5,
        versions={"live": 1},
        conditions=("base", "rain"),
        drift_alarms=3,
    ),
)


def test_growth_and_failures_of_a_soak_are_shown() -> None:
    lines = soak_lines(SOAK)
    assert "| resident memory, growth after the warm-up | +1.23% |" in lines
    assert "| resident memory, highest | 432 MiB |" in lines
    assert "| threads, and change | 35, -1 |" in lines
    assert "| rounds | failed 1, promoted 2 |" in lines
    assert "- failed: r1: no memory" in lines


def test_what_was_broken_is_shown_with_what_was_lost() -> None:
    lines = faults_lines(FAULTS)
    assert lines[0] == "Tests: failed 1, passed 9."
    assert "| daemon | 200 | 5000 | 4000 | 0 | 0 |" in lines
    assert "| ENOSPC at write | 5 | 400 | 0 |" in lines
    assert "| neither counted nor answered | 1 |" in lines
    assert "| lost | 0 |" in lines
    assert "| ledger | 60 entries, 5 settled in full after a kill, 1234 J |" in lines


def test_what_did_not_run_is_not_shown() -> None:
    assert faults_lines(FaultsReport(tests={"passed": 1})) == ["Tests: passed 1."]
