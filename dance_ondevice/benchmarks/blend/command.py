"""``dance-ondevice bench blend``: how far statistics measured without labels should be believed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.benchmarks.options import (
    dataset_option,
    fitting_card,
    folder_option,
    hand_over,
    made_here,
    model_option,
    note_option,
    out_option,
    say,
)
from dance_ondevice.benchmarks.result import command_line
from dance_ondevice.daemon.cli import WorkFailed, json_option
from dance_ondevice.daemon.terminal import print_table
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.datasets.registry import open_dataset
from dance_ondevice.models.card import CheckpointError

if TYPE_CHECKING:
    from dance_ondevice.benchmarks.blend.report import BlendReport


@click.command()
@dataset_option
@folder_option("--root", required=True, help="Folder that holds the data set.")
@model_option("--model", "model_path", required=True, help="Folder of a model that knows its classes.")
@click.option("--split", default="train", show_default=True, help="Its longest drives are measured.")
@click.option("--drives", type=click.IntRange(1), default=3, show_default=True, help="How many.")
@click.option(
    "--images", type=click.IntRange(1), default=8, show_default=True, help="To score in each drive."
)
@out_option()
@note_option
@json_option
def blend(
    *,
    dataset_name: str,
    root: Path,
    model_path: Path,
    split: str,
    drives: int,
    images: int,
    out: Path | None,
    note: str,
    as_json: bool,
) -> None:
    """Score blends of a model's own statistics with those that a drive's first images give without labels.

    Beside them stands the blend that the service chooses, by agreement with the masks of mirrored images.
    """
    dataset = open_dataset(dataset_name, root)
    fitting_card(model_path, dataset, "--model")
    # torch is imported only now, so that wrong usage is reported at once.
    from dance_ondevice.benchmarks.blend.run import Amounts, TooShort, run
    from dance_ondevice.training.batches import SampleError

    try:
        report = run(dataset, split, model_path, Amounts(drives=drives, scored=images), say=say)
    except DatasetError as error:
        raise click.BadParameter(str(error), param_hint="--root") from error
    except (CheckpointError, SampleError, TooShort) as error:
        raise WorkFailed(str(error)) from error
    options = {
        "--dataset": dataset_name,
        "--root": "DIR",
        "--model": "BASE",
        "--split": split,
        "--drives": drives,
        "--images": images,
        "--out": "FILE.json",
    }
    told = ", ".join(
        f"{name} ({each.measured} and {each.scored} images)" for name, each in report.drives.items()
    )
    about = made_here(
        "blend",
        command_line("bench blend", options),
        f"{dataset_name}, {split}: {told}",
        seed=None,
        note=note,
    )
    hand_over(about, report, _show, out=out, as_json=as_json)


def _show(report: BlendReport) -> None:
    keys = list(next(iter(report.drives.values())).blends)
    print_table(
        f"mIoU by the weight of measured statistics, {report.model} on {report.dataset}",
        ("drive", *keys, "chosen"),
        [
            (name, *(round(drive.blends[key].miou, 4) for key in keys), drive.chosen)
            for name, drive in report.drives.items()
        ],
    )
