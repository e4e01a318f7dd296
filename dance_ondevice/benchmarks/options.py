"""What the subcommands of ``dance-ondevice bench`` share: options, checks, and handing over a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import click

from dance_ondevice import __version__
from dance_ondevice.benchmarks.result import About, encode_result, machine_class, write_result
from dance_ondevice.daemon.cli import WorkFailed
from dance_ondevice.daemon.terminal import comma_names
from dance_ondevice.datasets.acdc import ACDC_CONDITIONS
from dance_ondevice.datasets.listing import Dataset
from dance_ondevice.datasets.registry import DATASET_NAMES
from dance_ondevice.files import check_replaceable
from dance_ondevice.models.card import CheckpointError, ModelCard, read_card

T = TypeVar("T")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

dataset_option: Decorator = click.option(
    "--dataset", "dataset_name", type=click.Choice(DATASET_NAMES), required=True, help="Its layout."
)
conditions_option: Decorator = click.option(
    "--conditions",
    default="",
    metavar="A,B",
    callback=comma_names,
    help=f"acdc: of {', '.join(ACDC_CONDITIONS)}; all if none is named.",
)
note_option: Decorator = click.option(
    "--note", default="", metavar="TEXT", help="What a reader of --out must know to judge it."
)


def folder_option(name: str, **extra: Any) -> Decorator:
    """An option that takes a folder that is there."""
    kind = click.Path(path_type=Path, file_okay=False, exists=True)
    return click.option(name, type=kind, metavar="DIR", **extra)


def work_option(text: str) -> Decorator:
    """``--work``, a folder that keeps what is finished; it is made where it is not there yet."""
    kind = click.Path(path_type=Path, file_okay=False)
    return click.option("--work", type=kind, metavar="DIR", callback=_made, help=text)


def model_option(name: str, parameter: str | None = None, **extra: Any) -> Decorator:
    """An option that takes the folder of a trained model; ``metavar`` is BASE unless told."""
    return click.option(
        *((name, parameter) if parameter else (name,)),
        type=click.Path(path_type=Path, exists=True),
        **{"metavar": "BASE", **extra},
    )


def out_option(text: str = "Write the result here as well, as JSON.", **extra: Any) -> Decorator:
    """``--out``, refused before anything is measured when its folder is not there."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        callback=_in_a_folder,
        help=text,
        **extra,
    )


def say(line: str) -> None:
    """Tell how far the work is, on stderr: stdout holds the result alone."""
    click.echo(line, err=True)


def fitting_card(model: Path, dataset: Dataset, option: str) -> ModelCard:
    """The card of a model that knows the classes of a data set.

    Raises:
        BadParameter: it cannot be read, or has other classes; names ``option``.
    """
    try:
        card = read_card(model)
    except CheckpointError as error:
        raise click.BadParameter(str(error), param_hint=option) from error
    if card.classes != dataset.classes:
        raise click.BadParameter(
            f"the model knows the classes {', '.join(card.classes)}; "
            f"{dataset.name} has {', '.join(dataset.classes)}",
            param_hint=option,
        )
    return card


def made_here(benchmark: str, command: str, data: str, *, seed: int | None, note: str = "") -> About:
    """Where a result comes from that was measured just now, by this version on this machine."""
    return About(
        benchmark=benchmark,
        command=command,
        data=data,
        machine=machine_class(),
        date=datetime.now(timezone.utc).date().isoformat(),
        seed=seed,
        version=__version__,
        note=note,
    )


def hand_over(
    about: About,
    report: T,
    show: Callable[[T], None],
    *,
    out: Path | None,
    as_json: bool,
    draw: Callable[[T, Path], Sequence[str]] | None = None,
) -> None:
    """Write a result where ``--out`` says, and print it.

    Args:
        about: where it comes from.
        report: what was measured.
        show: prints it for people.
        out: file, if any.
        as_json: print what the file holds instead.
        draw: makes pictures beside the file; what it returns is told on stderr.

    Raises:
        WorkFailed: a file cannot be written.
    """
    if out is not None:
        try:
            write_result(out, about, report)
            for line in draw(report, out) if draw else ():
                say(line)
        except OSError as error:
            raise WorkFailed(f"cannot write {out}: {error.strerror}") from error
    if as_json:
        click.echo(encode_result(about, report), nl=False)
    else:
        show(report)


def _made(_context: click.Context, _option: click.Parameter, folder: Path | None) -> Path | None:
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.BadParameter(f"{folder} cannot be made: {error.strerror}") from error
    return folder


def _in_a_folder(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and not value.absolute().parent.is_dir():
        raise click.BadParameter(f"{value.parent} is no folder")
    if value is not None:
        try:
            check_replaceable(value)
        except OSError as error:
            raise click.BadParameter(f"{value}: {error.strerror}") from error
    return value
