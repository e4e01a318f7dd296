"""``dance-ondevice bench console``."""

from __future__ import annotations

import contextlib
import http.client
import tempfile
from pathlib import Path

import click

from dance_ondevice.benchmarks.console.page import lines
from dance_ondevice.benchmarks.options import (
    hand_over,
    made_here,
    note_option,
    out_option,
    say,
    work_option,
)
from dance_ondevice.benchmarks.result import command_line
from dance_ondevice.daemon.cli import FiniteRange, WorkFailed, json_option


@click.command("console")
@click.option(
    "--turns", type=click.IntRange(1), default=6, show_default=True, help="With and without viewers."
)
@click.option("--seconds", type=FiniteRange(0.5), default=20.0, show_default=True, help="Of each of them.")
@click.option("--fps", type=FiniteRange(0.5, 30), default=4.0, show_default=True, help="Of the camera.")
@work_option("Keep the daemon's state and logs here; they must not be there yet.")
@out_option()
@note_option
@json_option
def console(
    *, turns: int, seconds: float, fps: float, work: Path | None, out: Path | None, note: str, as_json: bool
) -> None:
    """Measure what the console costs and how soon it answers.

    The first page, a tap's region (in node, which runs the page's own code), the console's memory, and the
    latency of masks while nobody and while three people watch.
    """
    from dance_ondevice.benchmarks.console.run import Plan, run
    from dance_ondevice.benchmarks.console.visitor import VisitFailed
    from dance_ondevice.benchmarks.labelling.taps import TapsError
    from dance_ondevice.daemon.control.client import ClientError
    from dance_ondevice.demo.process import DaemonDied

    with contextlib.ExitStack() as stack:
        folder = work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dance-bench-console-")))
        try:
            report = run(Plan(turns=turns, seconds=seconds, fps=fps), folder, say=say)
        except (DaemonDied, ClientError, VisitFailed, TapsError, OSError, http.client.HTTPException) as error:
            raise WorkFailed(str(error)) from error
    options: dict[str, object] = {"--turns": turns, "--seconds": seconds, "--fps": fps, "--out": "FILE.json"}
    about = made_here(
        "console", command_line("bench console", options), "the synthetic street", seed=0, note=note
    )
    hand_over(about, report, lambda found: click.echo("\n".join(lines(found))), out=out, as_json=as_json)
