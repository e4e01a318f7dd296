"""``dance-ondevice pretrain``: trains a base model on a data set, own folders, or the synthetic camera."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from dance_ondevice.daemon.cli import FiniteRange, WorkFailed, config_option, json_option
from dance_ondevice.daemon.commands.models.base_source import (
    FOLDERS,
    STREET,
    Model,
    configured,
    kind_of,
    of_dataset,
    own_images,
    refuse_options_of_others,
)
from dance_ondevice.daemon.terminal import comma_names, print_json, print_pairs, print_table, size_of
from dance_ondevice.datasets.acdc import ACDC_CONDITIONS
from dance_ondevice.datasets.registry import DATASET_NAMES
from dance_ondevice.datasets.street import CONDITIONS
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models import packaged
from dance_ondevice.models.card import CARD_FILE, TENSORS_FILE, CheckpointError, ModelCard
from dance_ondevice.models.registry import ARCHITECTURES

if TYPE_CHECKING:
    from rich.progress import Progress

    from dance_ondevice.training.base_images import BaseImages
    from dance_ondevice.training.batches import TrainingSample
    from dance_ondevice.training.pretraining import PretrainOptions

_MIN_SIDE = 32
#: Share of the number of training frames that is rendered in addition, for evaluation.
_VALIDATION_SHARE = 0.25


def _list(*names: str, **extra: Any) -> Callable[..., Any]:
    """An option that takes names separated by commas."""
    return click.option(*names, callback=comma_names, metavar="A,B", **extra)


def _path(*names: str, **extra: Any) -> Callable[..., Any]:
    """An option that takes a folder; ``exists=True`` requires it to exist."""
    kind = click.Path(path_type=Path, file_okay=False, exists=extra.pop("exists", False))
    return click.option(*names, type=kind, metavar="DIR", **extra)


@click.command()
@click.option(
    "--dataset",
    type=click.Choice([*DATASET_NAMES, STREET]),
    help="What to train on; or name your own folders by --images and --labels.",
)
@_path("--root", exists=True, help="Data sets: folder that holds the data set.")
@_list("--split", "splits", default="train", show_default=True, help="Data sets: train on these splits.")
@_list("--sequences", default="", help="Data sets: train on these sequences alone.")
@_path("--images", exists=True, help="Your own images: a.jpg, b.png and so on.")
@_path("--labels", exists=True, help="Their labels: a.png and so on, ids in grey or a palette, 255 = ignore.")
@config_option
@click.option(
    "--hold-out",
    type=FiniteRange(0, 1, max_open=True),
    default=0.2,
    show_default=True,
    help="Own images: share, the last by name, to evaluate on and not to train on.",
)
@click.option(
    "--frames", type=click.IntRange(2), default=200, show_default=True, help="street: frames a condition."
)
@click.option(
    "--stride",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="street: from one frame to the next; neighbours look alike.",
)
@_list(
    "--conditions",
    default="day",
    show_default=True,
    help=f"street: of {', '.join(CONDITIONS)}; acdc: of {', '.join(ACDC_CONDITIONS)}, by default all.",
)
@click.option(
    "--varied",
    is_flag=True,
    help="street: --frames frames of scenes that all differ in light, weather, camera, layout, surfaces.",
)
@_list("--validate", default="", help="Evaluate on these: splits of a data set, conditions of the street.")
@click.option(
    "--architecture",
    type=click.Choice(sorted(ARCHITECTURES)),
    default="fastscnn",
    show_default=True,
    help="With --config that of the configuration.",
)
@click.option(
    "--size",
    callback=size_of(_MIN_SIDE),
    default="480x360",
    show_default=True,
    metavar="WIDTHxHEIGHT",
    help="Images are fitted and cropped to this; with --config the model.size of the configuration.",
)
@click.option(
    "--epochs",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Passes over the images; 0 writes --init under --class-map as it is.",
)
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, help="Images a step.")
@click.option(
    "--learning-rate",
    type=FiniteRange(0, min_open=True),
    help="Highest learning rate.  [default: 0.005; 0.001 with a class map]",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="auto measures which is faster here.",
)
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help=f"Start from the model in this folder, or from the package's own: {packaged.NAME}. Where it knows "
    "other classes, its head starts anew. With --class-map a file of weights will do.",
)
@click.option(
    "--class-map",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="Says which classes of --init stand for each of yours, so that its head stays: TOML or JSON.",
)
@click.option("--half", is_flag=True, help="Store weights in 16 bits: half the file.")
@_path("--out", required=True, help="Folder for the model; made if missing.")
@click.option("--force", is_flag=True, help="Replace a model that is in --out already.")
@json_option
@click.pass_context
def pretrain(
    ctx: click.Context,
    *,
    dataset: str | None,
    root: Path | None,
    splits: tuple[str, ...],
    sequences: tuple[str, ...],
    images: Path | None,
    labels: Path | None,
    config_path: Path | None,
    hold_out: float,
    frames: int,
    stride: int,
    conditions: tuple[str, ...],
    varied: bool,
    validate: tuple[str, ...],
    architecture: str,
    size: tuple[int, int],
    epochs: int,
    batch_size: int,
    learning_rate: float | None,
    seed: int,
    precision: Literal["auto", "fp32", "bf16"],
    init: Path | None,
    class_map: Path | None,
    half: bool,
    out: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Train a base model and write it to --out: model.safetensors and card.json.

    That folder is what model.weights in the configuration takes.
    """
    from dance_ondevice.runtime.heap import keep_freed
    from dance_ondevice.training.pretraining import PretrainOptions

    keep_freed()
    if ctx.get_parameter_source("conditions") is ParameterSource.DEFAULT and dataset != STREET:
        conditions = ()
    kind = kind_of(dataset, images, labels)
    refuse_options_of_others(ctx, kind)
    model = Model(architecture=architecture, classes=STREET_CLASSES, size=size)
    if epochs < 1 and init is None:
        raise click.BadParameter("0 writes the model of --init as it is: name one", param_hint="--epochs")
    start = _start(init, class_map)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(_progress())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dance-pretrain-")))
        if kind == STREET:
            street = _Street(size=size, seed=seed, frames=frames, stride=stride)
            if varied:
                _refuse_with_varied(ctx)
                conditions = ()
            elif not conditions:
                raise click.BadParameter("names no condition", param_hint="--conditions")
            found = street.render(folder, conditions, validate, progress)
        elif kind == FOLDERS:
            model = configured(ctx, model, config_path)
            assert images is not None
            assert labels is not None
            found = own_images(images, labels, model, hold_out, folder)
        else:
            opened, found = of_dataset(
                kind,
                root,
                splits,
                validate=validate,
                sequences=sequences,
                conditions=conditions,
                folder=folder,
            )
            model = replace(model, classes=opened.classes)
        _prepare_out(out, force=force)
        options = PretrainOptions(
            architecture=model.architecture,
            factory=model.factory,
            classes=model.classes,
            size=model.size,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            precision=precision,
            init=start,
            class_map=class_map,
            half=half,
            dataset=found.description,
        )
        card = _train(found, options, out, progress)
    _tell(card, out, as_json=as_json)


def _refuse_with_varied(ctx: click.Context) -> None:
    for name in ("conditions", "stride"):
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name} does not go with --varied, whose scenes draw their own")


def _start(init: Path | None, class_map: Path | None) -> Path | None:
    if class_map is not None and init is None:
        raise click.UsageError("--class-map joins the classes of a model to start from: name it by --init")
    if init is None or init.is_dir():
        return init
    if init.is_file():
        if class_map is None:
            raise click.UsageError(
                "a file of weights does not say what its classes are: give --class-map FILE"
            )
        return init
    if str(init) == packaged.NAME:
        return packaged.FOLDER
    raise click.BadParameter(
        f"{init} is not there; give a folder that holds a model, or {packaged.NAME}", param_hint="--init"
    )


def _prepare_out(out: Path, *, force: bool) -> None:
    """Check before the training whether the model can be written after it."""
    for name in (TENSORS_FILE, CARD_FILE):
        if (out / name).exists() and not force:
            raise click.BadParameter(
                f"{out / name} is there already; --force replaces it", param_hint="--out"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.BadParameter(f"cannot make {out}: {error.strerror}", param_hint="--out") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise click.BadParameter(f"{out} cannot be written to", param_hint="--out")


@dataclass(frozen=True, kw_only=True)
class _Street:
    """The rendered drive: ``frames`` frames, ``stride`` apart."""

    size: tuple[int, int]
    seed: int
    frames: int
    stride: int

    def render(
        self, folder: Path, conditions: tuple[str, ...], validate: tuple[str, ...], progress: Progress
    ) -> BaseImages:
        """Render training frames, and frames further down the street for evaluation.

        Without conditions, the scenes of the training frames vary in everything.
        """
        for hint, names in (("--conditions", conditions), ("--validate", validate)):
            for name in names:
                if name not in CONDITIONS:
                    raise click.BadParameter(f"{name!r} is none of {', '.join(CONDITIONS)}", param_hint=hint)
        from dance_ondevice.training.base_images import BaseImages
        from dance_ondevice.training.pretraining import render_street, render_varied

        end = self.frames * self.stride
        held_out = max(1, round(self.frames * _VALIDATION_SHARE))
        task = progress.add_task(
            "rendering", total=self.frames * max(1, len(conditions)) + held_out * len(validate), note=""
        )

        def rendered(names: tuple[str, ...], frames: range) -> list[TrainingSample]:
            return render_street(
                folder, frames, names, seed=self.seed, size=self.size, on_frame=lambda: progress.advance(task)
            )

        if conditions:
            train = rendered(conditions, range(0, end, self.stride))
            described: dict[str, object] = {"conditions": list(conditions), "stride": self.stride}
        else:
            train = render_varied(
                folder,
                self.frames,
                seed=self.seed,
                size=self.size,
                on_frame=lambda: progress.advance(task),
            )
            described = {"varied": True}
        samples = BaseImages(
            train=train,
            validation={
                name: rendered((name,), range(end, end + held_out * self.stride, self.stride))
                for name in validate
            },
            description={
                "name": "street",
                **described,
                "frames": self.frames,
                "seed": self.seed,
            },
        )
        progress.remove_task(task)
        return samples


def _progress() -> Progress:
    """Progress bars on stderr, so that stdout holds only the result."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True, highlight=False),
        transient=True,
    )


def _train(found: BaseImages, options: PretrainOptions, out: Path, progress: Progress) -> ModelCard:
    from dance_ondevice.models.mapping.class_map import ClassMapError
    from dance_ondevice.models.registry import ModelError
    from dance_ondevice.models.weights import WeightsError
    from dance_ondevice.training.batches import SampleError
    from dance_ondevice.training.pretraining import EpochReport, PretrainError, Watcher, pretrain
    from dance_ondevice.training.trainer import StepReport, TrainingDiverged

    training = progress.add_task("training", total=None, note="")
    evaluating = progress.add_task("evaluating", total=None, note="", visible=False)

    def on_step(report: StepReport) -> None:
        progress.update(training, completed=report.step, total=report.steps, note=f"loss {report.loss:.3f}")

    def on_epoch(report: EpochReport) -> None:
        loss = "no labelled pixels" if report.loss is None else f"loss {report.loss:.4f}"
        progress.console.print(f"epoch {report.epoch}/{report.epochs}  {loss}")

    def on_evaluated(name: str, done: int, total: int) -> None:
        progress.update(evaluating, completed=done, total=total, note=name, visible=True)

    try:
        return pretrain(
            found.train,
            found.validation,
            options,
            out,
            watcher=Watcher(on_step=on_step, on_epoch=on_epoch, on_evaluated=on_evaluated),
            created_at=time.time(),
        )
    except (PretrainError, WeightsError) as error:
        raise click.BadParameter(str(error), param_hint="--init") from error
    except ClassMapError as error:
        raise click.BadParameter(str(error), param_hint="--class-map") from error
    except (CheckpointError, ModelError, OSError, SampleError, TrainingDiverged) as error:
        raise WorkFailed(str(error)) from error


def _tell(card: ModelCard, out: Path, *, as_json: bool) -> None:
    facts = {
        "out": str(out),
        "version": card.version,
        "architecture": card.architecture or card.factory,
        "parameters": card.parameters,
        "macs": card.macs,
    }
    made = card.training
    if as_json:
        print_json({**facts, "training": made})
        return
    shown = ("samples", "epochs", "steps", "loss", "seconds", "cpu_seconds", "precision")
    print_pairs([*facts.items(), *((name, made[name]) for name in shown), ("training macs", made["macs"])])
    for name, scores in made["validation"].items():
        rows = [*scores["iou_per_class"].items(), ("mean", scores["miou"])]
        print_table(f"IoU on {name}, {scores['samples']} images", ("class", "IoU"), rows)
