"""``dance-ondevice bench step``: CPU time of training steps, beside another build."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.benchmarks.options import (
    dataset_option,
    folder_option,
    hand_over,
    made_here,
    note_option,
    out_option,
)
from dance_ondevice.benchmarks.result import command_line
from dance_ondevice.daemon.cli import WorkFailed, json_option
from dance_ondevice.daemon.terminal import print_table
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.datasets.registry import open_dataset

if TYPE_CHECKING:
    from dance_ondevice.benchmarks.step.report import StepReport


@click.command()
@dataset_option
@folder_option("--root", required=True, help="Folder that holds the data set.")
@folder_option("--against", required=True, help="Checkout of the build to compare with.")
@click.option("--name", default="", metavar="TEXT", help="What that build is, for the report.")
@click.option("--epochs", type=click.IntRange(1), default=7, show_default=True, help="To time, in turns.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="bf16", show_default=True)
@out_option()
@note_option
@json_option
def step(
    *,
    dataset_name: str,
    root: Path,
    against: Path,
    name: str,
    epochs: int,
    precision: str,
    out: Path | None,
    note: str,
    as_json: bool,
) -> None:
    """Time training steps of this build and of another one, side by side on one thread.

    Both train the same images in turns, dense and as DANCE+ does in its last stages; decoding is part of it.
    """
    from dance_ondevice.benchmarks.step.run import StepFailed, measure

    try:
        with tempfile.TemporaryDirectory() as work:
            report = measure(
                open_dataset(dataset_name, root),
                against.resolve(),
                name or "another build",
                Path(work),
                epochs=epochs,
                precision=precision,
            )
    except DatasetError as error:
        raise click.BadParameter(str(error), param_hint="--root") from error
    except StepFailed as error:
        raise WorkFailed(str(error)) from error
    options = {
        "--dataset": dataset_name,
        "--root": "DIR",
        "--against": "CHECKOUT",
        "--name": name and f"'{name}'",
        "--epochs": epochs,
        "--precision": precision,
        "--out": "FILE.json",
    }
    about = made_here(
        "step", command_line("bench step", options), f"{dataset_name}, train", seed=0, note=note
    )
    hand_over(about, report, _show, out=out, as_json=as_json)


def _show(report: StepReport) -> None:
    print_table(
        f"A training step of {report.architecture}, {report.precision}, against {report.against}",
        ("step", "ms an image", "there", "ratio", "s a MAC, of dense"),
        [
            (
                name,
                round(cost.ms_an_image, 2),
                round(report.there[name].ms_an_image, 2) if name in report.there else None,
                round(report.ratios[name], 3),
                round(report.macs_ratio[name], 2),
            )
            for name, cost in report.here.items()
        ],
    )
