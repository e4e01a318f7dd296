"""``dance-ondevice bench score``: what models are worth on a data set as they are."""

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
from dance_ondevice.daemon.terminal import comma_names, print_table, size_of
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.datasets.registry import open_dataset
from dance_ondevice.models.card import CheckpointError

if TYPE_CHECKING:
    from dance_ondevice.benchmarks.score.report import ScoreReport


@click.command()
@dataset_option
@folder_option("--root", required=True, help="Folder that holds the data set.")
@model_option(
    "--model",
    "models",
    required=True,
    multiple=True,
    help="Folder of a model that knows the data set's classes; may be given several times.",
)
@click.option(
    "--splits", default="val,test", show_default=True, metavar="A,B", callback=comma_names, help="Images."
)
@click.option(
    "--size",
    default="480x360",
    show_default=True,
    metavar="WIDTHxHEIGHT",
    callback=size_of(64),
    help="Larger images are fitted to this; scores are taken at the size of the labels.",
)
@out_option()
@note_option
@json_option
def score(
    *,
    dataset_name: str,
    root: Path,
    models: tuple[Path, ...],
    splits: tuple[str, ...],
    size: tuple[int, int],
    out: Path | None,
    note: str,
    as_json: bool,
) -> None:
    """Score models on a labelled data set as they are; nothing is trained.

    Weights of other programs, which pretrain --epochs 0 brings under a class map, are measured the same way.
    """
    dataset = open_dataset(dataset_name, root)
    named = {path.resolve().name: path for path in models}
    if len(named) < len(models):
        raise click.BadParameter("two models have folders of the same name", param_hint="--model")
    for path in models:
        fitting_card(path, dataset, "--model")
    # torch is imported only now, so that wrong usage is reported at once.
    from dance_ondevice.benchmarks.score.run import run
    from dance_ondevice.training.batches import SampleError

    try:
        report = run(dataset, splits, named, size, say=say)
    except DatasetError as error:
        raise click.BadParameter(str(error), param_hint="--root") from error
    except (CheckpointError, SampleError) as error:
        raise WorkFailed(str(error)) from error
    options = {
        "--dataset": dataset_name,
        "--root": "DIR",
        **{f"--model {name}": True for name in named},
        "--splits": ",".join(splits),
        "--size": f"{size[1]}x{size[0]}",
        "--out": "FILE.json",
    }
    counted = ", ".join(
        f"{split} ({found.images} images)"
        for split, found in next(iter(report.models.values())).splits.items()
    )
    about = made_here(
        "score", command_line("bench score", options), f"{dataset_name}, {counted}", seed=None, note=note
    )
    hand_over(about, report, _show, out=out, as_json=as_json)


def _show(report: ScoreReport) -> None:
    splits = list(next(iter(report.models.values())).splits)
    print_table(
        f"Models as they are, {report.dataset}",
        ("model", *(f"mIoU {split}" for split in splits), "MACs", "CPU ms an image"),
        [
            (
                name,
                *(round(model.splits[split].miou, 4) for split in splits),
                model.macs,
                round(model.infer_cpu_ms, 1),
            )
            for name, model in report.models.items()
        ],
    )
