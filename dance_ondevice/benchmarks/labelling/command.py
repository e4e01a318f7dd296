"""``dance-ondevice bench labelling``."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from dance_ondevice.benchmarks.labelling.page import lines
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
from dance_ondevice.daemon.cli import FiniteRange, WorkFailed, json_option
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.models import packaged
from dance_ondevice.models.card import CheckpointError

#: The keys of ``streams.STREAMS``, which imports more than a help text should cost.
_STREAMS = ("camvid-dusk", "camvid-day", "idd-drives")


@click.command("labelling")
@click.option("--stream", type=click.Choice(_STREAMS), required=True, help="What may be labelled.")
@folder_option("--root", required=True, help="Folder that holds CamVid, or IDD-Lite.")
@model_option("--base", "base_path", help="Model that serves meanwhile, instead of the package's own.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="How many, from 0 on.")
@click.option("--steps", type=click.IntRange(1), default=30, show_default=True, help="Of each round.")
@click.option(
    "--taps-a-frame",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Of the simulated person, before the next frame is opened.",
)
@click.option("--confirms", is_flag=True, help='The last of them is the button "All else is right".')
@click.option(
    "--unlabelled",
    type=FiniteRange(0.0),
    help="Weight of the live model's own answers where a label says nothing, instead of the service's.",
)
@click.option(
    "--interpolation",
    type=FiniteRange(0.0, 1.0, min_open=True),
    help="How far a round on taps goes from the live weights (0) to the trained ones (1), instead of the "
    "service's way.",
)
@work_option("Keep finished rounds here, and go on from those that are there.")
@out_option()
@note_option
@json_option
def labelling(
    *,
    stream: str,
    root: Path,
    base_path: Path | None,
    seeds: int,
    steps: int,
    taps_a_frame: int,
    confirms: bool,
    unlabelled: float | None,
    interpolation: float | None,
    work: Path | None,
    out: Path | None,
    note: str,
    as_json: bool,
) -> None:
    """Measure what a few taps of a person are worth.

    A simulated person corrects the live model's masks in the frames that the service asks for, by 30 and by
    100 taps: each gives the largest wrong region its true class, and the page's own code (run by node)
    decides which pixels that means. Against it stand taps in frames at random, and whole labels of a tenth
    of the frames.
    """
    from dance_ondevice.benchmarks.labelling.person import Habits
    from dance_ondevice.benchmarks.labelling.run import Plan, run
    from dance_ondevice.benchmarks.labelling.streams import open_stream
    from dance_ondevice.benchmarks.labelling.taps import TapsError
    from dance_ondevice.training.batches import SampleError

    habits = Habits(taps_a_frame=taps_a_frame, confirms=confirms)
    plan = Plan(seeds=tuple(range(seeds)), steps=steps, habits=habits)
    if unlabelled is not None:
        plan = replace(plan, unlabelled=unlabelled)
    if interpolation is not None:
        plan = replace(plan, interpolation=interpolation)
    with contextlib.ExitStack() as stack:
        folder = work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dance-bench-labels-")))
        try:
            opened = open_stream(stream, root)
        except DatasetError as error:
            raise click.BadParameter(str(error), param_hint="--root") from error
        try:
            report = run(plan, base_path or packaged.FOLDER, opened, folder, say=say)
        except (CheckpointError, SampleError, TapsError) as error:
            raise WorkFailed(str(error)) from error
    options: dict[str, object] = {
        "--stream": stream,
        "--root": "DIR",
        "--base": "BASE" if base_path else "",
        "--seeds": seeds,
        "--steps": steps,
        "--taps-a-frame": taps_a_frame,
        "--confirms": confirms,
        "--unlabelled": "" if unlabelled is None else unlabelled,
        "--interpolation": "" if interpolation is None else interpolation,
        "--out": "FILE.json",
    }
    about = made_here(
        "labelling", command_line("bench labelling", options), report.frames_of, seed=0, note=note
    )
    hand_over(about, report, lambda found: click.echo("\n".join(lines(found))), out=out, as_json=as_json)
