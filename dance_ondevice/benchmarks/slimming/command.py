"""``dance-ondevice bench slimming``: DANCE and its parts against dense training, in one call."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from dance_ondevice import __version__
from dance_ondevice.benchmarks.result import About, encode_result, machine_class, write_result
from dance_ondevice.daemon.cli import WorkFailed, json_option
from dance_ondevice.daemon.output import print_table
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.datasets.registry import DATASET_NAMES
from dance_ondevice.models.card import CheckpointError
from dance_ondevice.models.registry import ARCHITECTURES

if TYPE_CHECKING:
    from dance_ondevice.benchmarks.slimming.plan import Plan
    from dance_ondevice.benchmarks.slimming.report import SlimmingReport

_VARIANTS = "dense,data,network,dance,dance+"
#: (height, width) that images are fitted to when the user names none.
_SIZES = {"camvid": (360, 480), "camvid32": (360, 480), "cityscapes": (512, 1024), "bdd100k": (360, 640)}


@click.command()
@click.option("--dataset", type=click.Choice(DATASET_NAMES), required=True, help="Its layout.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    required=True,
    help="Folder that holds the data set.",
)
@click.option(
    "--sequences", default="", metavar="A,B", help="Train on these sequences alone (camvid, cityscapes)."
)
@click.option(
    "--architecture", type=click.Choice(sorted(ARCHITECTURES)), default="fastscnn", show_default=True
)
@click.option("--setting", type=click.Choice(["scratch", "finetune"]), default="scratch", show_default=True)
@click.option(
    "--init",
    type=click.Path(path_type=Path, exists=True),
    metavar="BASE",
    help="finetune: folder of the model to start from, as pretrain writes it.",
)
@click.option("--protocol", type=click.Choice(["full", "quick"]), default="quick", show_default=True)
@click.option(
    "--variants", default=_VARIANTS, show_default=True, metavar="A,B", help="What to compare with dense."
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
    "--size", metavar="WIDTHxHEIGHT", default="", help="Images are fitted to this; else the data set's own."
)
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="What a killed run goes on from; by default beside --out.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    required=True,
    help="The result as JSON; plots go beside it.",
)
@click.option("--note", default="", metavar="TEXT", help="What a reader of --out must know to judge it.")
@json_option
def slimming(
    *,
    dataset: str,
    root: Path,
    sequences: str,
    architecture: str,
    setting: str,
    init: Path | None,
    protocol: str,
    variants: str,
    seed: int,
    device: str,
    precision: str,
    size: str,
    work: Path | None,
    out: Path,
    note: str,
    as_json: bool,
) -> None:
    """Train dense and slimmed variants side by side, and compare cost and mIoU.

    All variants see the same images, augmentation and precision, and are evaluated at the size of the labels
    on images that none was trained on. A killed run goes on from its last epoch when the same command is
    given again.
    """
    if not out.absolute().parent.is_dir():
        raise click.BadParameter(f"{out.parent} is no folder", param_hint="--out")
    if (setting == "finetune") != (init is not None):
        raise click.BadParameter(
            "finetune needs a model to start from, scratch must not have one", param_hint="--init"
        )
    names = tuple(name.strip() for name in variants.split(",") if name.strip())
    wanted = _size(size) if size else _SIZES[dataset]
    # torch comes only now, so that wrong usage is told at once.
    from dance_ondevice.benchmarks.slimming.plan import Plan
    from dance_ondevice.benchmarks.slimming.plots import draw
    from dance_ondevice.benchmarks.slimming.recipes import recipe
    from dance_ondevice.benchmarks.slimming.run import OtherPlan, VariantFailed, run

    try:
        for name in names:
            recipe(name, "quick", "scratch")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--variants") from error
    plan = Plan(
        dataset=dataset,
        root=root.resolve(),
        sequences=tuple(name.strip() for name in sequences.split(",") if name.strip()),
        architecture=architecture,
        setting="finetune" if setting == "finetune" else "scratch",
        init=str(init.resolve()) if init else "",
        protocol="full" if protocol == "full" else "quick",
        seed=seed,
        device=device,
        precision=_precision(precision, architecture, wanted, device, work or _beside(out)),
        size=wanted,
        work=work or _beside(out),
    )
    try:
        report = run(plan, names, lambda line: click.echo(line, err=True))
    except DatasetError as error:
        raise click.BadParameter(str(error), param_hint="--root") from error
    except OtherPlan as error:
        raise click.BadParameter(str(error), param_hint="--work") from error
    except (VariantFailed, CheckpointError) as error:
        raise WorkFailed(str(error)) from error
    about = _about(plan, names, note)
    try:
        write_result(out, about, report)
        for line in draw(report, out):
            click.echo(line, err=True)
    except OSError as error:
        raise WorkFailed(f"cannot write {out}: {error.strerror}") from error
    if as_json:
        click.echo(encode_result(about, report), nl=False)
    else:
        _show(report)


def _beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}.work").absolute()


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= 64):
        raise click.BadParameter(
            f"{text!r} is not WIDTHxHEIGHT of 64 pixels or more, such as 480x360", param_hint="--size"
        )
    return int(height), int(width)


def _precision(
    wanted: str, architecture: str, size: tuple[int, int], device: str, work: Path
) -> Literal["fp32", "bf16"]:
    """What was asked for; for "auto" what was measured, or what an earlier part of this run had measured."""
    from dance_ondevice.benchmarks.slimming.plan import read_plan
    from dance_ondevice.models.registry import build
    from dance_ondevice.precision import measure_precision

    if wanted == "fp32":
        return "fp32"
    if wanted == "bf16":
        return "bf16"
    if (work / "plan.json").is_file():
        return read_plan(work / "plan.json").precision
    return measure_precision(build(architecture, 11).to(device), size, 8)


def _about(plan: Plan, names: tuple[str, ...], note: str) -> About:
    width, height = plan.size[1], plan.size[0]
    words = [
        f"dance-ondevice bench slimming --dataset {plan.dataset} --root DIR",
        f"--sequences {','.join(plan.sequences)}" if plan.sequences else "",
        f"--architecture {plan.architecture} --setting {plan.setting}",
        "--init BASE" if plan.init else "",
        f"--protocol {plan.protocol} --variants {','.join(names)} --seed {plan.seed}",
        f"--device {plan.device} --precision {plan.precision} --size {width}x{height} --out FILE.json",
    ]
    return About(
        benchmark="slimming",
        command=" ".join(word for word in words if word),
        data=f"{plan.dataset}, trained on train"
        + (f" ({', '.join(plan.sequences)})" if plan.sequences else "")
        + f", evaluated on {' and '.join(plan.evaluated)}",
        machine=machine_class(),
        date=datetime.now(timezone.utc).date().isoformat(),
        seed=plan.seed,
        version=__version__,
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


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
