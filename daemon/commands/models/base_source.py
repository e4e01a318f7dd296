"""The sources of ``dance-ondevice pretrain``, by its options: a data set, or the user's own folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from dance_ondevice.daemon.cli import WorkFailed, load_config
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.datasets.registry import DATASET_NAMES, open_dataset
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.labels import LabelError

if TYPE_CHECKING:
    from dance_ondevice.datasets.listing import Dataset
    from dance_ondevice.training.base_images import BaseImages

STREET, FOLDERS = "street", "folders"
#: Options that each kind of source takes, besides those of all.
_ONLY_FOR = {
    **dict.fromkeys(DATASET_NAMES, ("root", "splits", "sequences", "validate")),
    "acdc": ("root", "splits", "sequences", "validate", "conditions"),
    STREET: ("frames", "stride", "conditions", "varied", "validate"),
    FOLDERS: ("images", "labels", "config_path", "hold_out"),
}


@dataclass(frozen=True, kw_only=True)
class Model:
    """The model to train; ``size`` is (height, width)."""

    architecture: str
    classes: tuple[str, ...]
    size: tuple[int, int]
    factory: str = ""


def kind_of(dataset: str | None, images: Path | None, labels: Path | None) -> str:
    """The kind of source: a data set, the street, or the user's own folders."""
    if images is None and labels is None:
        if dataset is None:
            raise click.UsageError(
                f"name a data set, --dataset {'|'.join((*DATASET_NAMES, STREET))}, or your own folders, "
                "--images DIR --labels DIR --config FILE"
            )
        return dataset
    if dataset is not None:
        raise click.UsageError("--dataset and --images exclude each other")
    if images is None or labels is None:
        raise click.UsageError("--images and --labels go together")
    return FOLDERS


def refuse_options_of_others(ctx: click.Context, kind: str) -> None:
    """Refuse options on the command line that this kind of source does not use."""
    foreign = {name: other for other, names in _ONLY_FOR.items() for name in names}
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name not in foreign or name in _ONLY_FOR[kind]:
            continue
        source = ctx.get_parameter_source(name)
        if source not in (ParameterSource.DEFAULT, ParameterSource.ENVIRONMENT):
            with_ = "--images and --labels" if foreign[name] == FOLDERS else _datasets_with(name)
            raise click.UsageError(f"{parameter.opts[0]} goes with {with_} only")


def _datasets_with(option: str) -> str:
    names = [kind for kind, options in _ONLY_FOR.items() if option in options and kind != FOLDERS]
    return f"--dataset {'|'.join(names)}"


def configured(ctx: click.Context, model: Model, config_path: Path | None) -> Model:
    """The classes, size and network of a configuration; options of the command line take precedence."""
    if config_path is None:
        raise click.UsageError(
            "--images and --labels need --config FILE, whose model.classes name the ids of the labels and "
            "whose model.size is that of your frames"
        )
    settings = load_config(config_path).config.model

    def named(option: str) -> bool:
        return ctx.get_parameter_source(option) is not ParameterSource.DEFAULT

    width, height = settings.size
    return Model(
        architecture=model.architecture if named("architecture") else settings.architecture,
        factory="" if named("architecture") else settings.factory,
        classes=settings.classes,
        size=model.size if named("size") else (height, width),
    )


def own_images(images: Path, labels: Path, model: Model, hold_out: float, folder: Path) -> BaseImages:
    """The images of a user's own folders; copies of labels that training cannot read go into ``folder``."""
    from dance_ondevice.training.base_images import from_folders

    try:
        found = from_folders(images, labels, model.classes, hold_out, folder=folder)
    except DatasetError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise WorkFailed(str(error)) from error
    for note in found.notes:
        click.echo(f"warning: {note}", err=True)
    return found


def of_dataset(
    name: str,
    root: Path | None,
    splits: tuple[str, ...],
    *,
    validate: tuple[str, ...],
    sequences: tuple[str, ...],
    conditions: tuple[str, ...],
    folder: Path,
) -> tuple[Dataset, BaseImages]:
    """A data set, and which parts of it are used."""
    from dance_ondevice.training.base_images import from_dataset

    if root is None:
        raise click.UsageError(f"--dataset {name} needs --root DIR, the folder that holds it")
    if not splits:
        raise click.BadParameter("names no split", param_hint="--split")
    try:
        opened = open_dataset(name, root, conditions)
        found = from_dataset(
            opened, splits, validate, sequences=sequences, conditions=conditions, folder=folder
        )
    except DatasetError as error:
        raise click.UsageError(str(error)) from error
    except (ImageError, LabelError, OSError) as error:
        raise WorkFailed(str(error)) from error
    return opened, found
