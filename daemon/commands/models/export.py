"""``dance-ondevice models export``: writes a version as a file that other programs can run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import index, target
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.terminal import print_json
from dance_ondevice.files import read_regular
from dance_ondevice.images.headers import ImageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dance_ondevice.models.card import ModelCard
    from dance_ondevice.runtime.export import Exported

#: Listed here as well, so that help and errors need no torch; a test compares them.
FORMATS = ("onnx", "torchscript", "executorch")
#: Number of stored images on which the file is compared with the model.
_FRAMES = 4


@click.command()
@click.argument("version")
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="What to write.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", required=True, help="Where to."
)
@click.option(
    "--size",
    callback=lambda ctx, param, value: _size(value),
    metavar="WxH",
    help="Size of the images, where the format needs one; by default the one that the card counts MACs at.",
)
@click.option(
    "--condition",
    metavar="NAME",
    help="Export it with the statistics of this condition (see `status`), not with its own.",
)
@config_option
@state_dir_option
@json_option
def export(
    *,
    version: str,
    form: str,
    out: Path,
    size: tuple[int, int] | None,
    condition: str | None,
    config_path: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Write a version as ONNX, TorchScript or ExecuTorch, for programs without this package.

    VERSION is one that `models list` names, or the folder of a model. The file takes one normalised RGB
    image, (1, 3, H, W), and gives logits. It is run beside the model on a few frames (stored ones, where
    there are any) and kept only if both agree.
    """
    if not out.name:  # an empty variable in a script
        raise click.BadParameter("give the name of a file", param_hint="--out")
    if not out.parent.is_dir():
        raise click.BadParameter(f"{out.parent} is no folder", param_hint="--out")
    paths = target(config_path, state_dir)
    directory = _directory(paths, version)
    from dance_ondevice.models.card import CheckpointError
    from dance_ondevice.runtime.export import export as write
    from dance_ondevice.runtime.formats import ExportError

    try:
        model, card = _load(directory, condition)
        height, width = card.macs_at if size is None else (size[1], size[0])
        done = write(model, card, form, out, size=(height, width), frames=_frames(paths, height, width))
    except (ExportError, CheckpointError) as error:
        raise WorkFailed(str(error)) from error
    except OSError as error:
        raise WorkFailed(f"cannot write {out}: {error.strerror or error}") from error
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(done) | {"version": card.version or directory.name, "file": str(out)})
        return
    click.echo(_sentence(done, out))


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, x, height = text.partition("x")
    if not (x and width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
        raise click.BadParameter(f"{text!r} is no size; write it as WIDTHxHEIGHT, for example 480x360")
    return int(width), int(height)


def _sentence(done: Exported, out: Path) -> str:
    parity = done.parity
    if done.size is not None:
        sizes = f"images of {done.size[1]}x{done.size[0]} only"
    elif done.multiple_of > 1:
        sizes = f"images whose sides are multiples of {done.multiple_of} only"
    else:
        sizes = "images of any size"
    tried = ", ".join(f"{width}x{height}" for height, width in done.tried)
    return (
        f"{out}: {done.bytes / 1e6:.2f} MB of {done.format} for {sizes}; on {parity.frames} frames "
        f"of {tried} {parity.mask_agreement:.2%} of the mask is the same, logits differ by up to "
        f"{parity.max_difference:.2g} (the largest is {parity.largest_logit:.3g})"
    )


def _directory(paths: StatePaths, version: str) -> Path:
    names = sorted(path.parent.name for path in paths.models.glob("[!.]*/card.json"))
    if version in names:
        return paths.models / version
    if (Path(version) / "card.json").is_file():
        return Path(version)
    raise WorkFailed(f"no version {version!r}; there are: {', '.join(names) or 'none'}")


def _load(directory: Path, condition: str | None) -> tuple[Any, ModelCard]:
    from dance_ondevice.conditions import statistics as conditions
    from dance_ondevice.conditions import store as condition_store
    from dance_ondevice.conditions.arrays import StatisticsMismatch
    from dance_ondevice.models import checkpoint

    model, card = checkpoint.load(directory)
    if condition is not None:
        known, _ = condition_store.load_conditions(directory)
        if condition not in known:
            raise WorkFailed(
                f"{card.version or directory.name} has no statistics of a condition {condition!r}; "
                f"there are: {', '.join(sorted(known)) or 'none'}"
            )
        try:
            conditions.apply(model, known[condition])
        except StatisticsMismatch as error:
            raise WorkFailed(str(error)) from error
    return model, card


def _frames(paths: StatePaths, height: int, width: int) -> list[NDArray[np.uint8]]:
    """The newest stored images; synthetic ones where there are none."""
    from dance_ondevice.datasets.street import day_frames
    from dance_ondevice.images import codec as images

    found = []
    if paths.database.is_file():
        with index(paths) as database:
            rows = database.execute(f"select path from samples order by captured_at desc limit {_FRAMES}")
            stored = [paths.root / path for (path,) in rows.fetchall()]
        for file in stored:
            try:
                found.append(images.decode_colour(read_regular(file)))
            except (OSError, ImageError):
                continue  # evicted in the meantime, or damaged, which the doctor reports
    return found or day_frames((height, width), [40 * number for number in range(_FRAMES)])
