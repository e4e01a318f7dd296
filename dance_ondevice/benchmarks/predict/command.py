"""``dance-ondevice bench predict``."""

from __future__ import annotations

import tempfile
from datetime import datetime, timezone
from pathlib import Path

import click

from dance_ondevice import __version__
from dance_ondevice.benchmarks.predict.page import lines
from dance_ondevice.benchmarks.result import About, encode_result, machine_class, write_result
from dance_ondevice.daemon.cli import WorkFailed, json_option


@click.command()
@click.option("--passes", type=click.IntRange(2), default=50, show_default=True, help="Of each engine.")
@click.option(
    "--seconds", type=click.FloatRange(1.0), default=30.0, show_default=True, help="Of an idle board."
)
@click.option("--fps", type=click.FloatRange(0.5), default=5.0, show_default=True, help="Of the camera.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of an engine.")
@click.option("--epochs", type=click.IntRange(1), default=4, show_default=True, help="Of the round.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the result here as well, as JSON.",
)
@click.option("--note", default="", metavar="TEXT", help="What a reader of --out must know to judge it.")
@json_option
def predict(
    *,
    passes: int,
    seconds: float,
    fps: float,
    threads: int,
    epochs: int,
    out: Path | None,
    note: str,
    as_json: bool,
) -> None:
    """Measure how long masks take: by engine, on an idle board, and beside a round up to its swap."""
    if out is not None and not out.parent.is_dir():
        raise click.BadParameter(f"{out.parent} is no folder", param_hint="--out")
    from dance_ondevice.benchmarks.predict.run import Plan, run
    from dance_ondevice.daemon.client import ClientError
    from dance_ondevice.demo.process import DaemonDied

    plan = Plan(passes=passes, seconds=seconds, fps=fps, threads=threads, epochs=epochs)
    try:
        with tempfile.TemporaryDirectory(prefix="dance-bench-predict-") as folder:
            report = run(plan, Path(folder), say=lambda line: click.echo(line, err=True))
    except (DaemonDied, ClientError, OSError) as error:
        raise WorkFailed(str(error)) from error
    about = About(
        benchmark="predict",
        command=f"dance-ondevice bench predict --passes {passes} --seconds {seconds:g} --fps {fps:g} "
        f"--threads {threads} --epochs {epochs}",
        data="synthetic street, 640x480",
        machine=machine_class(),
        date=datetime.now(timezone.utc).date().isoformat(),
        seed=0,
        version=__version__,
        note=note,
    )
    if out is not None:
        try:
            write_result(out, about, report)
        except OSError as error:
            raise WorkFailed(f"cannot write {out}: {error.strerror}") from error
    click.echo(encode_result(about, report) if as_json else "\n".join(lines(report)), nl=not as_json)
