"""``dance-ondevice labels``: bring labels to stored samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import index, model_classes, target
from dance_ondevice.daemon.terminal import print_json, print_table

if TYPE_CHECKING:
    from dance_ondevice.daemon.curation.labels import Format, Mask
    from dance_ondevice.label_formats.class_map import ClassMap

_TIMEOUT_MS = 30_000


@dataclass(frozen=True)
class Result:
    """What became of one label; ``error`` is None when it was stored."""

    file: str
    sample: str | None
    error: str | None


@click.group()
def labels() -> None:
    """Bring labels to stored samples."""


@labels.command(name="import")
@click.argument("path", metavar="PATH", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["auto", "png", "coco", "cvat", "labelstudio"]),
    default="auto",
    show_default=True,
    help="PNG masks, COCO JSON, CVAT for images XML, or Label Studio JSON.",
)
@click.option(
    "--class-map",
    "map_file",
    metavar="FILE.toml",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='Table [classes]: name or id in the labels = class name, id or "ignore".',
)
@click.option(
    "--camera",
    metavar="NAME",
    help="Match files to this camera's samples by the last number in their name, the sequence number.",
)
@config_option
@state_dir_option
@json_option
@click.pass_context
def import_(
    ctx: click.Context,
    *,
    path: Path,
    kind: Format,
    map_file: Path | None,
    camera: str | None,
    config_path: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Send labels to the daemon: a folder of masks, or what a labelling tool exported.

    A label belongs to the sample whose id is the file's name, or its image's, without the ending. Masks are
    8-bit single-channel PNGs of class ids, 255 where no class is known, as large as the frame was when it was
    captured or as its stored image. Drawings become masks; what nobody drew on is ignored, unless the class
    map has a `background`. A class name that is unknown stops the import before anything is stored.
    """
    from dance_ondevice.daemon.control.instances import read_daemon_file
    from dance_ondevice.daemon.curation import labels as label_import
    from dance_ondevice.label_formats.class_map import ClassMapError
    from dance_ondevice.label_formats.regions import FormatError

    paths = target(config_path, state_dir)
    try:
        masks, exports = label_import.find(path, kind)
        published = read_daemon_file(paths)
        if published is None or not published.ingest:
            raise WorkFailed(
                f"no daemon that takes frames runs on {paths.root}; start it with "
                f"`dance-ondevice run --state-dir {paths.root}`"
            )
        classes = model_classes(paths, config_path)
        class_map = _class_map(map_file, classes)
        with index(paths) as database:
            found = label_import.read_masks(
                masks,
                exports,
                kind=kind,
                class_map=class_map,
                classes=classes,
                targets=label_import.Targets(database, camera),
            )
            results = list(_send(published.ingest[0], found))
    except (label_import.NothingFound, ClassMapError, FormatError) as error:
        raise WorkFailed(str(error)) from error
    imported = sum(result.error is None for result in results)
    refused = len(results) - imported
    if as_json:
        print_json({"imported": imported, "refused": refused, "results": results})
    else:
        click.echo(f"{imported} imported, {refused} refused")
        if refused:
            print_table("Refused", ("file", "why"), [(r.file, r.error) for r in results if r.error])
    if refused:
        if hint := label_import.unknown_ids(masks, class_map, classes):
            click.echo(
                f"Ids that are no class can be given one with --class-map and such a file:\n\n{hint}",
                err=True,
            )
        ctx.exit(1)


def _class_map(file: Path | None, classes: tuple[str, ...]) -> ClassMap:
    from dance_ondevice.label_formats.class_map import ClassMap, ClassMapError, read_class_map

    if file is None:
        return ClassMap()
    try:
        return read_class_map(file.read_text("utf-8"), classes)
    except (OSError, UnicodeDecodeError, ClassMapError) as error:
        raise ClassMapError(f"{file}: {error}") from error


def _send(endpoint: str, masks: Iterable[Mask]) -> Iterator[Result]:
    """Send the labels one after another; each is stored, or refused, before the next one goes."""
    import zmq

    from dance_ondevice.daemon.wire.codec import label_parts, parse_reply
    from dance_ondevice.daemon.wire.messages import WireError

    with zmq.Context() as context, context.socket(zmq.DEALER) as channel:
        channel.linger = 0
        channel.connect(endpoint)
        for mask in masks:
            if mask.sample is None or mask.error is not None:
                yield Result(mask.file, mask.sample, mask.error)
                continue
            channel.send_multipart(label_parts(mask.sample, mask.png))
            if not channel.poll(_TIMEOUT_MS):
                raise WorkFailed(f"the daemon at {endpoint} did not answer for {mask.file}; see its log")
            try:
                reply = parse_reply(channel.recv_multipart()[-1])
            except WireError as error:
                raise WorkFailed(f"{endpoint} is not the daemon's: {error}") from error
            yield Result(
                mask.file, mask.sample, None if reply.ok else reply.error or "refused without a reason"
            )
