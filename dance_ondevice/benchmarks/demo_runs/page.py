"""The table of ``bench demo``."""

from __future__ import annotations

from dance_ondevice.benchmarks.demo_runs.report import DemoRun, DemoRuns
from dance_ondevice.benchmarks.markdown import table


def lines(report: DemoRuns) -> list[str]:
    """The runs, one a row, and what they come to."""
    runs = report.runs
    phases = list(dict.fromkeys(name for run in runs for name in run.gains))
    ended = sum(run.status == 0 for run in runs)
    clean = sum(not run.shortcomings for run in runs)
    columns = ("seed", "status", "seconds", "load", "epochs", "promoted", *phases, "said")
    return [
        f"{ended} of {len(runs)} ended with status 0; {clean} showed all that was to be shown. Load is the "
        "average of the last minute, before and after a run; epochs are those of pretraining the first "
        "model, 12 if there is time; by phase stands the live model's mIoU at its end over the first "
        "model's, with the bounds that other frames would have moved it between.",
        "",
        *table(columns, (_row(run, phases) for run in runs)),
    ]


def _row(run: DemoRun, phases: list[str]) -> list[str]:
    return [
        str(run.seed),
        str(run.status),
        f"{run.seconds:.0f}",
        f"{run.load[0]:.0f} - {run.load[1]:.0f}",
        str(run.epochs),
        f"{run.rounds.get('promoted', 0)} of {sum(run.rounds.values())}",
        *(_gain(run, name) for name in phases),
        "; ".join(run.shortcomings) or "all conditions met",
    ]


def _gain(run: DemoRun, phase: str) -> str:
    if phase not in run.gains:
        return "-"
    point, low, high = run.gains[phase]
    if low is None or high is None or low == high:
        return f"{point:+.3f}"
    return f"{point:+.3f} ({low:+.3f} to {high:+.3f})"
