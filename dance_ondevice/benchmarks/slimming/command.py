"""``dance-ondevice bench slimming``: DANCE and its parts against dense training, in one call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

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
    work_option,
)
from dance_ondevice.benchmarks.result import About, command_line
from dance_ondevice.daemon.cli import WorkFailed, json_option
from dance_ondevice.daemon.terminal import comma_names, print_table, size_of
from dance_ondevice.datasets.listing import Dataset, DatasetError
from dance_ondevice.datasets.registry import open_dataset
from dance_ondevice.models.card import CheckpointError
from dance_ondevice.models.registry import ARCHITECTURES
from dance_ondevice.runtime.heap import keep_freed

if TYPE_CHECKING:
    from dance_ondevice.benchmarks.slimming.plan import Plan
    from dance_ondevice.benchmarks.slimming.recipes import Protocol, Setting
    from dance_ondevice.benchmarks.slimming.report import SlimmingReport
    from dance_ondevice.training.precision import Precision

_ARCHITECTURE = "fastscnn"
_VARIANTS = "dense,data,network,dance,dance+"
#: (height, width) of images when the user gives none.
_SIZES = {
    **{"camvid": (360, 480), "camvid32": (360, 480), "cityscapes": (512, 1024), "bdd100k": (360, 640)},
    **{"acdc": (540, 960), "idd_lite": (227, 320)},
}


@click.command()
@dataset_option
@folder_option("--root", required=True, help="Folder that holds the data set.")
@click.option(
    "--sequences",
    default="",
    metavar="A,B",
    callback=comma_names,
    help="Train on these sequences alone (bdd100k has one an image).",
)
@click.option(
    "--by-drive",
    is_flag=True,
    help="Train on some drives of train, evaluate on others: of every ten by name four and one.",
)
@conditions_option
@click.option(
    "--architecture",
    type=click.Choice(sorted(ARCHITECTURES)),
    help=f"From scratch {_ARCHITECTURE} by default; finetune has that of --init.",
)
@click.option("--setting", type=click.Choice(["scratch", "finetune"]), default="scratch", show_default=True)
@model_option("--init", help="finetune: folder of the model to start from, as pretrain writes it.")
@click.option(
    "--protocol",
    type=click.Choice(["long", "full", "quick"]),
    default="quick",
    show_default=True,
    help="Epochs of dense: 96, 24 or 4; others have as many or fewer.",
)
@click.option(
    "--variants",
    default=_VARIANTS,
    show_default=True,
    metavar="A,B",
    callback=comma_names,
    help="What to compare with dense.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Of all variants; auto measures once which is faster here.",
)
@click.option(
    "--size",
    metavar="WIDTHxHEIGHT",
    callback=size_of(64),
    help="Images are fitted to this; else the data set's own.",
)
@work_option("What a killed run goes on from; by default beside --out.")
@out_option("The result as JSON; plots go beside it.", required=True)
@note_option
@json_option
def slimming(
    *,
    dataset_name: str,
    root: Path,
    sequences: tuple[str, ...],
    by_drive: bool,
    conditions: tuple[str, ...],
    architecture: str | None,
    setting: Setting,
    init: Path | None,
    protocol: Protocol,
    variants: tuple[str, ...],
    seed: int,
    device: str,
    precision: Literal["auto", "fp32", "bf16"],
    size: tuple[int, int] | None,
    work: Path | None,
    out: Path,
    note: str,
    as_json: bool,
) -> None:
    """Train dense and slimmed variants side by side, and compare cost and mIoU.

    All variants see the same images, augmentation and precision, and are evaluated at the size of the labels
    on images that none was trained on. A killed run goes on from its last epoch when the same command is
    given again. Slimmed variants are left out, and the reason told, where a model cannot be slimmed.
    """
    if (setting == "finetune") != (init is not None):
        raise click.BadParameter(
            "finetune needs a model to start from, scratch must not have one", param_hint="--init"
        )
    try:
        dataset = open_dataset(dataset_name, root, conditions)
    except DatasetError as error:
        raise click.BadParameter(str(error), param_hint="--root") from error
    built = architecture or _ARCHITECTURE if init is None else _architecture_of(init, dataset, architecture)
    # torch is imported only now, so that wrong usage is reported at once.
    import torch

    from dance_ondevice.benchmarks.slimming.plan import Plan
    from dance_ondevice.benchmarks.slimming.plots import draw
    from dance_ondevice.benchmarks.slimming.run import (
        NothingToTrain,
        OtherPlan,
        VariantFailed,
        checked_recipes,
        run,
    )

    if device == "cuda" and not torch.cuda.is_available():
        raise click.BadParameter("torch finds no CUDA device here; use cpu", param_hint="--device")
    folder = work or out.with_name(f"{out.stem}.work").absolute()
    plan = Plan(
        dataset=dataset_name,
        root=root.resolve(),
        sequences=sequences,
        architecture=built,
        setting=setting,
        init=str(init.resolve()) if init else "",
        protocol=protocol,
        seed=seed,
        device=device,
        precision="fp32" if precision == "auto" else precision,
        size=size or _SIZES[dataset_name],
        work=folder,
        conditions=conditions,
        by_drive=by_drive,
    )
    try:
        checked_recipes(plan, variants)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--variants") from error
    try:
        if precision == "auto":
            plan = replace(plan, precision=_precision(plan, dataset.classes))
        keep_freed()  # inference in torch is timed in this process
        report = run(plan, variants, say)
    except DatasetError as error:
        raise click.BadParameter(str(error), param_hint="--root") from error
    except OtherPlan as error:
        raise click.BadParameter(str(error), param_hint="--work") from error
    except (NothingToTrain, VariantFailed, CheckpointError) as error:
        raise WorkFailed(str(error)) from error
    hand_over(_about(plan, variants, note), report, _show, out=out, as_json=as_json, draw=draw)


def _architecture_of(init: Path, dataset: Dataset, asked: str | None) -> str:
    """The architecture of the model to start from, which must fit what is asked for and the data set."""
    card = fitting_card(init, dataset, "--init")
    if asked is not None and (card.factory or card.architecture != asked):
        found = f"a model of the factory {card.factory}" if card.factory else card.architecture
        raise click.BadParameter(f"{init} is {found}, not {asked}", param_hint="--architecture")
    return card.architecture or card.factory


def _precision(plan: Plan, classes: tuple[str, ...]) -> Precision:
    """What is faster for the plan's model, or what an earlier part of this run has found to be."""
    from dance_ondevice.benchmarks.slimming.first_model import first_model
    from dance_ondevice.benchmarks.slimming.plan import read_plan
    from dance_ondevice.training.precision import measure_precision

    if (plan.work / "plan.json").is_file():
        return read_plan(plan.work / "plan.json").precision
    return measure_precision(first_model(plan, classes)[0], plan.size, 8)


def _about(plan: Plan, variants: tuple[str, ...], note: str) -> About:
    options = {
        "--dataset": plan.dataset,
        "--root": "DIR",
        "--sequences": ",".join(plan.sequences),
        "--by-drive": plan.by_drive,
        "--conditions": ",".join(plan.conditions),
        "--architecture": plan.architecture if plan.architecture in ARCHITECTURES else "",
        "--setting": plan.setting,
        "--init": "BASE" if plan.init else "",
        "--protocol": plan.protocol,
        "--variants": ",".join(variants),
        "--seed": plan.seed,
        "--device": plan.device,
        "--precision": plan.precision,
        "--size": f"{plan.size[1]}x{plan.size[0]}",
        "--out": "FILE.json",
    }
    sequences = f" ({', '.join(plan.sequences)})" if plan.sequences else ""
    trained = f"{plan.dataset}, trained on train{sequences}"
    return made_here(
        "slimming",
        command_line("bench slimming", options),
        f"{plan.dataset}, the drives of train: of every ten by name four trained on, one evaluated on"
        if plan.by_drive
        else f"{trained}, evaluated on {' and '.join(plan.evaluated)}",
        seed=plan.seed,
        note=note,
    )


def _show(report: SlimmingReport) -> None:
    splits = sorted({split for variant in report.variants.values() for split in variant.miou})
    print_table(
        f"{report.architecture} on {report.dataset}, {report.setting}, {report.protocol} protocol",
        ("variant", *(f"mIoU {split}" for split in splits), "train s", "of dense", "infer ms", "of dense"),
        [
            (
                name,
                *(round(variant.miou[split], 4) for split in splits),
                round(variant.train_seconds),
                _share(variant.ratios.get("train_seconds")),
                round(variant.infer_ms, 1),
                _share(variant.ratios.get("infer_ms")),
            )
            for name, variant in report.variants.items()
        ],
    )
    for name, reason in report.left_out.items():
        click.echo(f"{name}: left out, {reason}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
