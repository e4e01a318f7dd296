"""``dance-ondevice samples export``: writes the images that are most worth labelling by a person."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import (
    cameras_with_samples,
    index,
    model_classes,
    no_sample_of,
    target,
)
from dance_ondevice.daemon.commands.samples.live_model import live_model
from dance_ondevice.daemon.terminal import print_json

if TYPE_CHECKING:
    from dance_ondevice.daemon.curation.shortlist import Exported
    from dance_ondevice.daemon.system.state import StatePaths

#: Images of so few seconds are as good as one.
_MOMENT = 10.0


@click.command()
@click.option(
    "--for-labelling",
    "count",
    required=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="The N samples without a label that are most worth one.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="New folder.",
)
@click.option("--camera", metavar="NAME", help="Only this camera's.")
@config_option
@state_dir_option
@json_option
def export(
    *,
    count: int,
    out: Path,
    camera: str | None,
    config_path: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Write the images to label next, first ones first, for a labelling tool or by hand.

    Worth much is what the live model is unsure of, what is detailed, what is of a rare condition; among the
    better half chance decides. They are spread over cameras, conditions and time, and images like each other,
    or like labelled ones, are left out.
    Images that are stored at their full size come before others of the same worth. DIR gets images/, an empty
    labels/ and manifest.json: `dance-ondevice labels import DIR` takes masks in labels/, or a tool's export
    in DIR, back. A mask may have the size of its image or that of the frame as it came.
    """
    from dance_ondevice.daemon.curation import shortlist as sample_export

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorkFailed(f"{out} exists and is not an empty folder; name another one")
    paths = target(config_path, state_dir)
    classes = model_classes(paths, config_path)
    with index(paths) as database:
        chosen = sample_export.choose(
            database, paths, count, camera=camera, uncertainty=_live_uncertainty(paths)
        )
        stored = cameras_with_samples(database)
    if not chosen.images:
        raise WorkFailed(
            "every sample without a label is like a labelled one"
            if chosen.candidates
            else _none(stored, camera)
        )
    try:
        sample_export.write(paths, chosen, out, classes)
    except OSError as error:
        raise WorkFailed(f"{out}: {error}") from error
    if as_json:
        print_json(
            {
                "out": str(out),
                "images": chosen.images,
                "candidates": chosen.candidates,
                "near_duplicates": chosen.duplicates,
                "seconds": chosen.seconds,
                "reduced": chosen.reduced,
            }
        )
        return
    for warning in _warnings(chosen):
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    click.echo(
        f"{len(chosen.images)} of {chosen.candidates} samples without a label are in {out}/images; "
        f"{chosen.duplicates} near-duplicates were left out.\n"
        f"Put the masks into {out}/labels, or a labelling tool's export into {out}, then run "
        f"`dance-ondevice labels import {out}`."
    )


def _none(stored: Sequence[str], camera: str | None) -> str:
    """Why there is nothing to export, and what to do."""
    if not stored:
        return "no samples are stored yet; send frames: dance-ondevice stream SOURCE --camera NAME"
    if camera is not None and camera not in stored:
        return no_sample_of(camera, stored)
    return "every stored sample has a label; send more frames: dance-ondevice stream SOURCE --camera NAME"


def _warnings(chosen: Exported) -> Iterator[str]:
    """What a person should know before the work begins."""
    count = len(chosen.images)
    if count > 1 and chosen.seconds <= _MOMENT:
        yield (
            f"all {count} images were taken within {_seconds(chosen.seconds)} and show nearly the same: "
            f"{count} labels of them teach little more than one. Let the camera run for some minutes, or "
            "stream a longer recording, and export again into another folder"
        )
    if chosen.reduced:
        yield (
            f"{chosen.reduced} of {count} images are stored smaller than they came (width and "
            "native_width in the manifest): masks of either size are taken, so label your own originals "
            "where you keep them"
        )


def _seconds(value: float) -> str:
    return "1 s" if value <= 1.0 else f"{math.ceil(value)} s"


def _live_uncertainty(paths: StatePaths) -> Callable[[Path], float | None] | None:
    """A function that gives 1 minus the live model's mean confidence on an image file."""
    ask = live_model(paths)
    if ask is None:
        return None

    def uncertainty(image: Path) -> float | None:
        seen = ask(image)
        return None if seen is None else 1.0 - seen.mean_confidence

    return uncertainty
