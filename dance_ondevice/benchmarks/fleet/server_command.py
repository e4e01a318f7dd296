"""``dance-ondevice bench fleet-server``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from dance_ondevice.benchmarks.fleet.server import lines, run
from dance_ondevice.benchmarks.options import hand_over, made_here, note_option, out_option, say
from dance_ondevice.benchmarks.result import command_line
from dance_ondevice.daemon.cli import json_option
from dance_ondevice.models import packaged


@click.command("fleet-server")
@click.option(
    "--boards", type=click.IntRange(2), default=10_000, show_default=True, help="That ask for news."
)
@click.option(
    "--offers", type=click.IntRange(2), default=400, show_default=True, help="Boards that hand one in."
)
@out_option()
@note_option
@json_option
def fleet_server(*, boards: int, offers: int, out: Path | None, note: str, as_json: bool) -> None:
    """Measure what a fleet's server needs for many boards: memory, CPU, bytes, the time to a version.

    The root is the model that comes along; every offer has all of its channels, the dearest case. Each takes
    2.4 MB of disk while it runs.
    """
    from dance_ondevice.fleet.describe import describe
    from dance_ondevice.fleet.versions import read_arrays

    root = describe(packaged.FOLDER)
    _, tensors, _ = read_arrays(packaged.FOLDER)
    with tempfile.TemporaryDirectory(prefix="dance-bench-fleet-server-") as folder:
        report = run(root, tensors, Path(folder) / "state", boards=boards, offers=offers, say=say)
    options: dict[str, object] = {"--boards": boards, "--offers": offers, "--out": "FILE.json"}
    data = "offers of the model that comes along, moved by noise; 8 different ones"
    about = made_here("fleet-server", command_line("bench fleet-server", options), data, seed=0, note=note)
    hand_over(about, report, lambda found: click.echo("\n".join(lines(found))), out=out, as_json=as_json)
