"""``dance-ondevice bench predict``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from dance_ondevice.benchmarks.options import hand_over, made_here, note_option, out_option, say
from dance_ondevice.benchmarks.predict.page import lines
from dance_ondevice.benchmarks.result import command_line
from dance_ondevice.daemon.cli import FiniteRange, WorkFailed, json_option
from dance_ondevice.daemon.terminal import size_of


@click.command()
@click.option("--passes", type=click.IntRange(2), default=50, show_default=True, help="Of each engine.")
@click.option(
    "--rounds",
    type=click.IntRange(0),
    default=4,
    show_default=True,
    help="Each after an idle board; 0 compares engines alone.",
)
@click.option(
    "--seconds",
    type=FiniteRange(1.0),
    default=45.0,
    show_default=True,
    help="Of an idle board, each time.",
)
@click.option("--fps", type=FiniteRange(0.5), default=5.0, show_default=True, help="Of the camera.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    multiple=True,
    help="Of an engine; may be given several times. [default: 1, and all cores]",
)
@click.option("--epochs", type=click.IntRange(1), default=4, show_default=True, help="Of a round.")
@click.option(
    "--size",
    metavar="WIDTHxHEIGHT",
    callback=size_of(32),
    default="640x480",
    show_default=True,
    help="Of the frames.",
)
@out_option()
@note_option
@json_option
def predict(
    *,
    passes: int,
    rounds: int,
    seconds: float,
    fps: float,
    threads: tuple[int, ...],
    epochs: int,
    size: tuple[int, int],
    out: Path | None,
    note: str,
    as_json: bool,
) -> None:
    """Measure how long masks take: by engine, on an idle board, and beside a round up to its swap."""
    from dance_ondevice.benchmarks.predict.run import Plan, run
    from dance_ondevice.daemon.control.client import ClientError
    from dance_ondevice.demo.process import DaemonDied

    threads = threads or tuple(sorted({1, os.cpu_count() or 1}))
    plan = Plan(
        passes=passes, rounds=rounds, seconds=seconds, fps=fps, threads=threads, epochs=epochs, size=size
    )
    try:
        with tempfile.TemporaryDirectory(prefix="dance-bench-predict-") as folder:
            report = run(plan, Path(folder), say=say)
    except (DaemonDied, ClientError, OSError) as error:
        raise WorkFailed(str(error)) from error
    options = {
        "--passes": passes,
        "--rounds": rounds,
        "--seconds": f"{seconds:g}",
        "--fps": f"{fps:g}",
        "--threads": " --threads ".join(map(str, threads)),
        "--epochs": epochs,
        "--size": f"{size[1]}x{size[0]}",
    }
    about = made_here(
        "predict",
        command_line("bench predict", options),
        f"synthetic street, {size[1]}x{size[0]}",
        seed=0,
        note=note,
    )
    hand_over(about, report, lambda found: click.echo("\n".join(lines(found))), out=out, as_json=as_json)
