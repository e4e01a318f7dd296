"""``dance-ondevice bench``: measurements of the method, one subcommand each."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.benchmarks.base.command import base
from dance_ondevice.benchmarks.blend.command import blend
from dance_ondevice.benchmarks.console.command import console
from dance_ondevice.benchmarks.demo_runs.command import demo
from dance_ondevice.benchmarks.fleet.command import fleet
from dance_ondevice.benchmarks.fleet.server_command import fleet_server
from dance_ondevice.benchmarks.ingest.command import ingest
from dance_ondevice.benchmarks.labelling.command import labelling
from dance_ondevice.benchmarks.options import (
    conditions_option,
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
from dance_ondevice.benchmarks.predict.command import predict
from dance_ondevice.benchmarks.result import command_line
from dance_ondevice.benchmarks.score.command import score
from dance_ondevice.benchmarks.service.command import service
from dance_ondevice.benchmarks.slimming.command import slimming
from dance_ondevice.benchmarks.step.command import step
from dance_ondevice.benchmarks.stream.command import stream
from dance_ondevice.daemon.cli import CommandGroup, WorkFailed, json_option
from dance_ondevice.daemon.terminal import print_table
from dance_ondevice.datasets.listing import Dataset, DatasetError, LabelledImage
from dance_ondevice.datasets.registry import open_dataset
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.labels import LabelError
from dance_ondevice.models.card import CheckpointError

if TYPE_CHECKING:
    from dance_ondevice.benchmarks.first_round_report import FirstRoundReport
    from dance_ondevice.benchmarks.indicators_report import IndicatorsReport

#: What images are downsampled to: the scales below 1 that the daemon comes with.
_SCALES = (0.75, 0.5)
_FEWEST_LESSONS = 3
_FEWEST_SEQUENCES = 3


@click.group(cls=CommandGroup)
def bench() -> None:
    """Measure the method on labelled images."""


bench.add_command(base)
bench.add_command(console)
bench.add_command(blend)
bench.add_command(demo)
bench.add_command(fleet)
bench.add_command(labelling)
bench.add_command(fleet_server)
bench.add_command(ingest)
bench.add_command(predict)
bench.add_command(score)
bench.add_command(service)
bench.add_command(slimming)
bench.add_command(step)
bench.add_command(stream)


@bench.command()
@dataset_option
@folder_option("--root", required=True, help="Folder that holds the data set.")
@conditions_option
@model_option(
    "--model", "model_path", required=True, help="Folder of a trained model, as pretrain writes it."
)
@click.option("--split", default="test", show_default=True, help="Images to measure on.")
@click.option(
    "--learn-from",
    default="train",
    show_default=True,
    metavar="SPLIT",
    help="Images that the learnt indicator learns the model's losses from: those of --split to have it judge "
    "each sequence by what the others taught; empty to leave it out.",
)
@click.option(
    "--every",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Take every N-th image alone.",
)
@out_option()
@note_option
@json_option
def indicators(
    *,
    dataset_name: str,
    root: Path,
    conditions: tuple[str, ...],
    model_path: Path,
    split: str,
    learn_from: str,
    every: int,
    out: Path | None,
    note: str,
    as_json: bool,
) -> None:
    """Compare complexity indicators with the mIoU that downsampling really costs a model.

    Each image of the split is segmented at full size and at smaller ones, always scored at the size of its
    label. Printed are each indicator's rank correlation with the loss of mIoU and its time for a 640x480
    frame, taken as the daemon takes it: on the grey decode that ingest makes.
    """
    try:
        dataset = open_dataset(dataset_name, root, conditions)
        items = dataset.images((split,))[::every]
        lessons = dataset.images((learn_from,))[::every] if learn_from else []
    except DatasetError as error:
        raise click.BadParameter(str(error), param_hint="--root") from error
    if learn_from and len(lessons) < _FEWEST_LESSONS:
        raise click.BadParameter(
            f"{len(lessons)} images are too few to learn from, {_FEWEST_LESSONS} are needed",
            param_hint="--learn-from",
        )
    if learn_from == split and len({item.sequence for item in items}) < _FEWEST_SEQUENCES:
        raise click.BadParameter(
            f"names the images that are measured on, which have fewer than {_FEWEST_SEQUENCES} sequences to "
            "learn from one another",
            param_hint="--learn-from",
        )
    report = _measure(dataset, model_path, _Images(split, items), _Images(learn_from, lessons))
    options = {
        "--dataset": dataset_name,
        "--root": "DIR",
        **({"--conditions": ",".join(conditions)} if conditions else {}),
        "--model": "BASE",
        "--split": split,
        "--learn-from": learn_from or "''",
        **({"--every": every} if every > 1 else {}),
    }
    about = made_here(
        "indicators",
        command_line("bench indicators", options),
        f"{dataset_name}, {split}, {len(items)} images",
        seed=None,
        note=note,
    )
    hand_over(about, report, _show, out=out, as_json=as_json)


@bench.command(name="first-round")
@folder_option("--root", required=True, help="A CamVid folder.")
@model_option(
    "--base", metavar="DIR", required=True, help="Folder of the base model, trained on other sequences."
)
@click.option("--match", default="0001TP", show_default=True, help="Sequence of train/ to stream.")
@click.option("--split", default="test", show_default=True, help="Images to measure on.")
@out_option()
@json_option
def first_round(*, root: Path, base: Path, match: str, split: str, out: Path | None, as_json: bool) -> None:
    """Stream a new scene to a daemon, let it learn once, and score the model before and after."""
    from dance_ondevice.benchmarks.first_round import FirstRoundError, Scene, run_first_round
    from dance_ondevice.datasets.camvid import VOID_ID, camvid
    from dance_ondevice.demo.process import DaemonDied
    from dance_ondevice.training.batches import TrainingSample

    try:
        items = camvid(root, (split,))
    except DatasetError as error:
        raise click.BadParameter(str(error), param_hint="--root") from error
    scene = Scene(
        dataset="camvid",
        images=root / "train",
        labels=root / "trainannot",
        match=match,
        measured=[TrainingSample(image=i.image, label=i.label, void=(VOID_ID,)) for i in items],
        measured_on=f"{split}, {len(items)} images",
    )
    try:
        with tempfile.TemporaryDirectory(prefix="dance-first-round-") as folder:
            report = run_first_round(scene, base, Path(folder), say=say)
    except (FirstRoundError, CheckpointError, DaemonDied) as error:
        raise WorkFailed(str(error)) from error
    options = {"--root": "DIR", "--base": "BASE", "--match": match, "--split": split}
    about = made_here(
        "first-round",
        command_line("bench first-round", options),
        f"camvid, {report.streamed} streamed, measured on {report.measured_on}",
        seed=0,
    )
    hand_over(about, report, partial(_show_round, match), out=out, as_json=as_json)


def _show_round(match: str, report: FirstRoundReport) -> None:
    print_table(
        f"One round on {match}, measured on {report.measured_on}: {report.outcome}",
        ("model", "mIoU", "MACs", "parameters"),
        [(m.version, round(m.miou, 4), m.macs, m.parameters) for m in (report.before, report.after)],
    )


@dataclass(frozen=True)
class _Images:
    split: str
    items: list[LabelledImage]


def _measure(dataset: Dataset, model_path: Path, measured: _Images, lessons: _Images) -> IndicatorsReport:
    fitting_card(model_path, dataset, "--model")
    # torch is imported only now, so that wrong usage is reported at once.
    from dance_ondevice.benchmarks.indicators import Bench, learn, measure_indicators
    from dance_ondevice.models import checkpoint

    try:
        model, card = checkpoint.load(model_path)
        found = Bench(
            model=model, card=card, scales=_SCALES, read_label=dataset.read_label, clock=time.perf_counter
        )
        learnt, apart = None, tuple[str, ...]()
        learnt_from = f"{lessons.split}, {len(lessons.items)} images" if lessons.items else ""
        if lessons.split == measured.split:
            apart = tuple(item.sequence for item in measured.items)
            learnt_from += f", each of {len(set(apart))} sequences judged by what others taught"
        elif lessons.items:
            with _progress("learning", lessons) as on_image:
                learnt = learn(found, lessons.items, on_image=on_image)
        with _progress("measuring", measured) as on_image:
            return measure_indicators(
                found,
                measured.items,
                learnt=learnt,
                apart=apart,
                dataset=dataset.name,
                split=measured.split,
                learnt_from=learnt_from,
                on_image=on_image,
            )
    except (CheckpointError, ImageError, LabelError, OSError) as error:
        raise WorkFailed(str(error)) from error


@contextmanager
def _progress(label: str, images: _Images) -> Iterator[Callable[[int], None]]:
    with click.progressbar(length=len(images.items), label=label, file=sys.stderr) as bar:
        yield lambda _: bar.update(1)


def _show(report: IndicatorsReport) -> None:
    scales = [scale for scale in report.miou if scale != "1"]
    print_table(
        f"Rank correlation with the loss of mIoU, {report.dataset} {report.split}",
        (
            "indicator",
            *(f"rho at {scale}" for scale in scales),
            "us a frame",
            "of a grey decode",
            "on target",
        ),
        [
            (
                name,
                *(found.rho[scale] for scale in scales),
                found.microseconds,
                None if found.of_grey_decode is None else f"{found.of_grey_decode:.0%}",
                found.on_target,
            )
            for name, found in report.indicators.items()
        ],
    )
    if report.served:
        told = ", ".join(f"{name} {value:.4f}" for name, value in report.served.items())
        click.echo(f"mIoU with a third of the images at each scale, chosen by: {told}")
    click.echo("mIoU: " + ", ".join(f"{value:.4f} at {scale}" for scale, value in report.miou.items()))
    click.echo(f"grey decode of a 640x480 JPEG: {report.grey_decode_microseconds:.0f} us")
