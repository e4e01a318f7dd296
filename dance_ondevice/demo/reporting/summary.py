"""Prints the report on the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dance_ondevice.demo.reporting.report import DemoReport, Phase
from dance_ondevice.demo.reporting.verdict import described, judge


def print_summary(console: Console, report: DemoReport, folder: Path) -> None:
    """Print the main figures of the report, the verdict, and the paths of its files."""
    frames, joules = report.frames, report.joules
    console.print()
    console.print(_miou_table(report))
    for phase in report.phases:
        console.print(Text(f"{phase.name}: {described(phase, report.eval_frames)}", style=_tone(phase)))
    console.print(_rounds_table(report))
    for one in report.rounds:
        if one.outcome != "promoted":
            console.print(Text(f"{one.outcome} ({one.phase}): {'; '.join(one.reasons)}", style="dim"))
    facts = Table.grid(padding=(0, 2))
    scales = sorted(frames.kept_by_scale.items(), reverse=True)
    for name, value in {
        "frames": f"{frames.sent} sent, {frames.kept} kept, {frames.dropped} dropped, "
        f"{frames.rejected} rejected, {frames.overflow} lost to overflow",
        "kept at scale": ", ".join(f"{scale:g}: {count}" for scale, count in scales),
        "masks": f"{report.masks_received} received",
        "MACs": ", ".join(f"{v.version} {_millions(v.macs)} ({v.status})" for v in report.versions),
        "joules": f"training {joules.training:.0f}, inference {joules.inference:.0f}, "
        f"ingest {joules.ingest:.0f} ({joules.method})",
        "took": f"{report.seconds:.0f} s",
        "report": f"{folder / 'report.html'} and {folder / 'report.json'}",
    }.items():
        facts.add_row(Text(name, style="dim"), Text(value))
    console.print(facts)
    found = judge(report)
    for style, word, sentences in (
        ("bold red", "failed", found.failures),
        ("bold yellow", "fell short", found.shortfalls),
        ("yellow", "note", found.notes),
        ("yellow", "what to do", (found.advice,) if found.advice else ()),
    ):
        for sentence in sentences:
            console.print(Text(f"{word}: {sentence}", style=style))
    if found.passed:
        console.print(Text("all conditions met", style="bold green"))


def _miou_table(report: DemoReport) -> Table:
    table = Table(title="mIoU on frames that no round saw", title_justify="left")
    table.add_column("phase")
    for name in ("frozen", "live at its end", "last live"):
        table.add_column(name, justify="right")
    table.add_column("version")
    for phase in report.phases:
        table.add_row(
            Text(phase.name),
            f"{phase.miou_frozen:.3f}",
            f"{phase.miou_live:.3f}",
            f"{phase.miou_final:.3f}",
            Text(phase.live_version or "-"),
        )
    return table


def _rounds_table(report: DemoReport) -> Table:
    table = Table(title="Rounds", title_justify="left")
    for name in ("started in", "outcome", "mIoU", "MACs", "joules"):
        table.add_column(name)
    for one in report.rounds:
        table.add_row(
            Text(one.phase),
            Text(one.outcome, style={"promoted": "green", "failed": "red"}.get(one.outcome, "")),
            f"{_score(one.miou_before)} -> {_score(one.miou_after)}",
            f"{_millions(one.macs_before)} -> {_millions(one.macs_after)}",
            "-" if one.joules is None else f"{one.joules:.0f} ({one.method})",
        )
    return table


def _tone(phase: Phase) -> str:
    if phase.gain.at_least() > 0:
        return "green"
    return "yellow" if phase.gain.at_most() < 0 else ""


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _millions(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:.1f} M"
