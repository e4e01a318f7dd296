"""``dance-ondevice bench base``."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import click

from dance_ondevice.benchmarks.base.page import lines
from dance_ondevice.benchmarks.options import (
    folder_option,
    hand_over,
    made_here,
    model_option,
    note_option,
    out_option,
    say,
    work_option,
)
from dance_ondevice.benchmarks.result import command_line
from dance_ondevice.daemon.cli import WorkFailed, json_option
from dance_ondevice.models import packaged
from dance_ondevice.models.card import CheckpointError


@click.command("base")
@folder_option("--camvid", required=True, help="Folder that holds CamVid.")
@folder_option("--idd", required=True, help="Folder that holds IDD-Lite: train/ and trainannot/.")
@model_option("--model", "model_path", help="Measure this base instead of the package's own.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="How many, from 0 on.")
@click.option("--steps", type=click.IntRange(1), default=40, show_default=True, help="Of each round.")
@click.option(
    "--start",
    "starts",
    type=click.Choice(["noise", "base"]),
    multiple=True,
    default=("noise", "base"),
    show_default=True,
    help="Where rounds start from; may be given several times.",
)
@click.option(
    "--labels",
    type=click.IntRange(0),
    multiple=True,
    default=(0, 5, 20, 80),
    show_default=True,
    help="Of a round; may be given several times.",
)
@work_option("Keep finished rounds here, and go on from those that are there.")
@out_option()
@note_option
@json_option
def base(
    *,
    camvid: Path,
    idd: Path,
    model_path: Path | None,
    seeds: int,
    steps: int,
    starts: tuple[str, ...],
    labels: tuple[int, ...],
    work: Path | None,
    out: Path | None,
    note: str,
    as_json: bool,
) -> None:
    """Measure what a base model is worth on cameras it has never seen.

    By class as it is, and after one round on 0, 5, 20 and 80 labels, against a network that starts from noise
    and takes the same joules.
    """
    from dance_ondevice.benchmarks.base.run import Plan, run
    from dance_ondevice.benchmarks.base.sites import SiteError, camvid_place, idd_place
    from dance_ondevice.training.batches import SampleError

    wanted = tuple((start, rate) for start, rate in Plan().starts if start in starts)
    plan = Plan(seeds=tuple(range(seeds)), steps=steps, starts=wanted, labels=labels)
    with contextlib.ExitStack() as stack:
        folder = work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dance-bench-base-")))
        try:
            places = [camvid_place(camvid), idd_place(idd)]
            report = run(plan, model_path or packaged.FOLDER, places, folder, say=say)
        except (CheckpointError, SampleError, SiteError) as error:
            raise WorkFailed(str(error)) from error
    options: dict[str, object] = {
        "--camvid": "DIR",
        "--idd": "DIR",
        "--model": "BASE" if model_path else "",
        "--seeds": seeds,
        "--steps": steps,
        "--out": "FILE.json",
    }
    about = made_here(
        "base",
        command_line("bench base", options),
        "; ".join(f"{site.name}: {site.data}" for site in report.sites),
        seed=0,
        note=note,
    )
    hand_over(about, report, lambda found: click.echo("\n".join(lines(found))), out=out, as_json=as_json)
