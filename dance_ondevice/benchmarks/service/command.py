"""``dance-ondevice bench service``."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import click

from dance_ondevice.benchmarks.options import (
    folder_option,
    hand_over,
    made_here,
    model_option,
    note_option,
    out_option,
    say,
)
from dance_ondevice.benchmarks.result import command_line
from dance_ondevice.benchmarks.service.report import ServiceReport
from dance_ondevice.daemon.cli import FiniteRange, WorkFailed, json_option
from dance_ondevice.models.card import CheckpointError


@click.command()
@click.option("--against", default="", metavar="REV", help="Git revision of the build to compare with.")
@click.option(
    "--python",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Interpreter with the packages of that build. By default an environment is made with pip.",
)
@click.option(
    "--minutes", type=FiniteRange(0), default=10.0, show_default=True, help="Of the driving camera."
)
@click.option(
    "--standing-seconds",
    type=FiniteRange(0),
    default=120.0,
    show_default=True,
    help="Of each standing camera.",
)
@click.option(
    "--frames", type=click.IntRange(10), default=500, show_default=True, help="Of a turn of ingest."
)
@click.option("--turns", type=click.IntRange(0), default=7, show_default=True, help="Of ingest.")
@click.option("--starts", type=click.IntRange(0), default=5, show_default=True, help="To time READY.")
@click.option("--passes", type=click.IntRange(0), default=16, show_default=True, help="Of each engine.")
@click.option(
    "--rounds",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Of this build, beside which masks are timed.",
)
@click.option(
    "--scale",
    type=FiniteRange(0.1, 1.0),
    default=0.75,
    show_default=True,
    help="That frames are segmented at.",
)
@click.option(
    "--share",
    type=FiniteRange(0.1, 1.0),
    default=0.45,
    show_default=True,
    help="Of the model's multiply-accumulates that is left.",
)
@model_option("--model", metavar="DIR", help="Model to slim; by default the one that comes along.")
@folder_option(
    "--folder", help="Where to make the state folders: the disk counts. By default where temporary files go."
)
@out_option("Write the result here as well, as JSON, with a plot of CPU time a frame beside it.")
@note_option
@json_option
def service(
    *,
    against: str,
    python: Path | None,
    minutes: float,
    standing_seconds: float,
    frames: int,
    turns: int,
    starts: int,
    passes: int,
    rounds: int,
    scale: float,
    share: float,
    model: Path | None,
    folder: Path | None,
    out: Path | None,
    note: str,
    as_json: bool,
) -> None:
    """Measure CPU time, joules and memory of the whole service, beside another build of it.

    Each build is a daemon of its own, fed the same frames in turn and read by its own counters: a camera that
    drives, cameras that stand, ingest at full speed, and the time to READY. This build's masks are timed by
    engine, and beside rounds, as `bench predict` does. A part is left out with 0.
    """
    from dance_ondevice.benchmarks.ingest.sending import Stuck
    from dance_ondevice.benchmarks.service.builds import BuildFailed, other_build, this_build
    from dance_ondevice.benchmarks.service.plots import draw
    from dance_ondevice.benchmarks.service.run import HEIGHT, WIDTH, Plan, run
    from dance_ondevice.daemon.control.client import ClientError
    from dance_ondevice.demo.process import DaemonDied

    if python is not None and not against:
        raise click.UsageError("--python is that of the build to compare with: name it with --against")
    plan = Plan(
        minutes=minutes,
        standing_seconds=standing_seconds,
        frames=frames,
        turns=turns,
        starts=starts,
        passes=passes,
        rounds=rounds,
        scale=scale,
        share=share,
        model=model,
    )
    options = {
        "--against": against,
        "--minutes": f"{minutes:g}",
        "--standing-seconds": f"{standing_seconds:g}",
        "--frames": frames,
        "--turns": turns,
        "--starts": starts,
        "--passes": passes,
        "--rounds": rounds,
        "--scale": f"{scale:g}",
        "--share": f"{share:g}",
        "--model": "DIR" if model else "",
    }
    try:
        with contextlib.ExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dance-bench-", dir=folder)))
            builds = [this_build()]
            if against:
                (work / "other").mkdir()
                builds.append(
                    stack.enter_context(
                        other_build(against, work / "other", python and python.absolute(), say=say)
                    )
                )
            report = run(plan, builds, work, say=say)
    except (BuildFailed, CheckpointError, DaemonDied, Stuck, ClientError, OSError) as error:
        raise WorkFailed(str(error)) from error
    about = made_here(
        "service",
        command_line("bench service", options),
        f"synthetic street, {WIDTH}x{HEIGHT}",
        seed=0,
        note=note,
    )
    hand_over(about, report, _show, out=out, as_json=as_json, draw=draw)


def _show(report: ServiceReport) -> None:
    from dance_ondevice.benchmarks.service.page import lines

    click.echo("\n".join(lines(report)))
