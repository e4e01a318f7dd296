"""``dance-ondevice bench fleet-server``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import msgspec

from dance_ondevice.benchmarks.fleet.idle import measure
from dance_ondevice.benchmarks.fleet.server import lines, run
from dance_ondevice.benchmarks.options import (
    hand_over,
    made_here,
    model_option,
    note_option,
    out_option,
    say,
)
from dance_ondevice.benchmarks.result import command_line
from dance_ondevice.daemon.cli import FiniteRange, json_option
from dance_ondevice.fleet.root import RootError
from dance_ondevice.models import packaged
from dance_ondevice.models.card import CheckpointError


@click.command("fleet-server")
@click.option(
    "--boards", type=click.IntRange(2), default=10_000, show_default=True, help="That ask for news."
)
@click.option(
    "--offers", type=click.IntRange(2), default=400, show_default=True, help="Boards that hand one in."
)
@click.option(
    "--idle",
    type=FiniteRange(0.0),
    default=0.0,
    show_default=True,
    help="Seconds that a server's and a board's idle process are looked at; 0 for not at all.",
)
@model_option("--model", "model_path", help="Root of the fleet; by default the model that comes along.")
@out_option()
@note_option
@json_option
def fleet_server(
    *,
    boards: int,
    offers: int,
    idle: float,
    model_path: Path | None,
    out: Path | None,
    note: str,
    as_json: bool,
) -> None:
    """Measure what a fleet's server needs for many boards: memory, CPU, bytes, the time to a version.

    Every offer has all channels of the root, the dearest case. Of the model that comes along each takes
    0.8 MB of disk while it runs.
    """
    from dance_ondevice.fleet.describe import describe
    from dance_ondevice.fleet.versions import read_arrays

    try:
        root = describe(model_path or packaged.FOLDER)
        _, tensors, _ = read_arrays(model_path or packaged.FOLDER)
    except (CheckpointError, RootError) as error:
        raise click.BadParameter(str(error), param_hint="--model") from error
    with tempfile.TemporaryDirectory(prefix="dance-bench-fleet-server-") as folder:
        report = run(root, tensors, Path(folder) / "state", boards=boards, offers=offers, say=say)
        if idle:
            say(f"two processes do nothing for {idle:.0f} s")
            found = measure(root, model_path or packaged.FOLDER, Path(folder), idle)
            report = msgspec.structs.replace(report, idle=found)
    options: dict[str, object] = {
        "--boards": boards,
        "--offers": offers,
        "--idle": f"{idle:g}" if idle else "",
        "--model": "BASE" if model_path else "",
        "--out": "FILE.json",
    }
    data = "offers of the root, moved by noise; 8 different ones"
    about = made_here("fleet-server", command_line("bench fleet-server", options), data, seed=0, note=note)
    hand_over(about, report, lambda found: click.echo("\n".join(lines(found))), out=out, as_json=as_json)
