"""The sections of ``make soak`` and ``make faults``."""

from __future__ import annotations

from collections.abc import Mapping

from dance_ondevice.benchmarks.markdown import table
from dance_ondevice.benchmarks.robustness.report import DayReport, FaultsReport, Overload, SoakReport


def soak_lines(report: SoakReport) -> list[str]:
    """What grew, and what happened meanwhile."""
    rows = [
        ("resident memory, median after the warm-up", _mebibytes(report.resident_median)),
        ("resident memory, highest", _mebibytes(report.resident_highest)),
        ("resident memory, growth after the warm-up", f"{report.growth:+.2%}"),
        ("descriptors, and change", f"{report.descriptors}, {report.descriptors_more:+d}"),
        ("threads, and change", f"{report.threads}, {report.threads_more:+d}"),
        ("frames", _counts(report.frames)),
        ("rounds", _counts(report.rounds)),
        ("conditions known", ", ".join(report.conditions)),
    ]
    return [
        f"{report.seconds:.0f} seconds, {report.looks} looks between rounds; the first {report.warm_up:.0%} "
        "are the warm-up, and then the last fifth of the looks is set against the first. The machine's load "
        f"was {report.load:.1f}.",
        "",
        *table(("what", "found"), rows),
        *(["", *(f"- failed: {reason}" for reason in report.failures)] if report.failures else []),
    ]


def faults_lines(report: FaultsReport) -> list[str]:
    """What was broken, and what was lost."""
    lines = [f"Tests: {_counts(report.tests)}."]
    if report.kills:
        rows = [(k.of, *map(str, (k.kills, k.sent, k.kept, k.lost, k.refunds))) for k in report.kills]
        columns = ("kill -9 of", "kills", "frames sent", "acknowledged", "lost", "ledger entries that shrank")
        lines += ["", *table(columns, rows)]
    if report.fleet:
        fleet = [
            (_counts(f.kills), *map(str, (f.updates, f.versions, f.lost, f.doubled))) for f in report.fleet
        ]
        head = ("kill -9 of a fleet's", "updates offered", "versions published", "lost", "used twice")
        lines += ["", *table(head, fleet)]
    if report.disks:
        disks = [(d.fault, *map(str, (d.refused, d.kept, d.lost))) for d in report.disks]
        lines += ["", *table(("disk", "refused with the reason", "acknowledged", "lost"), disks)]
    if report.overload is not None:
        lines += ["", *table(("overload", "found"), _overload(report.overload))]
    if report.day is not None:
        lines += ["", *table((f"a day of {report.day.frames} frames", "found"), _day(report.day))]
    return lines


def _overload(found: Overload) -> list[tuple[str, str]]:
    return [
        ("seconds", f"{found.seconds:.0f}"),
        ("frames a second, one after the other", f"{found.capacity:.0f}"),
        ("frames a second, offered", f"{found.offered:.0f}"),
        ("sent", str(found.sent)),
        ("counted", _counts(found.counted)),
        ("neither counted nor answered", str(found.sent - sum(found.counted.values()))),
        ("resident memory, highest", _mebibytes(found.resident_highest)),
        ("resident memory, growth after a third", f"{found.growth:+.1%}"),
        ("masks", str(found.masks)),
    ]


def _day(found: DayReport) -> list[tuple[str, str]]:
    return [
        ("lives of the daemon", str(found.lives)),
        ("ends", _counts(found.ends)),
        ("trainers killed amid their round", str(found.killed_trainers)),
        ("acknowledged, stored at the end, evicted", f"{found.kept}, {found.stored}, {found.evicted}"),
        ("lost", str(found.lost)),
        ("rounds", _counts(found.rounds)),
        ("rounds resumed", str(found.resumes)),
        (
            "ledger",
            f"{found.entries} entries, {found.reserved} settled in full after a kill, {found.joules:.0f} J",
        ),
        ("versions at the end", _counts(found.versions)),
        ("conditions noticed, drift alarms", f"{len(found.conditions)}, {found.drift_alarms}"),
    ]


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(found.items())) or "none"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
