"""``dance-ondevice labels``: bring labels to stored samples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands import index, target
from dance_ondevice.daemon.output import print_json, print_table

if TYPE_CHECKING:
    from sqlite_utils import Database

_TIMEOUT_MS = 30_000
_LAST_NUMBER = re.compile(r"(\d{1,18})\D*$")


@dataclass(frozen=True)
class Result:
    """What became of one label file; ``error`` is None when it was stored."""

    file: str
    sample: str | None
    error: str | None


@click.group()
def labels() -> None:
    """Bring labels to stored samples."""


@labels.command(name="import")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
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
    folder: Path,
    camera: str | None,
    config_path: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Send a folder of PNG labels to the daemon.

    A label belongs to the sample whose id is the file's name without .png. Labels are 8-bit single-channel
    images of class ids, 255 where no class is known, as large as the frame was when it was captured.
    """
    from dance_ondevice.daemon.instances import read_daemon_file

    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png")
    if not files:
        raise WorkFailed(f"{folder} holds no .png files")
    paths = target(config_path, state_dir)
    published = read_daemon_file(paths)
    if published is None or not published.ingest:
        raise WorkFailed(
            f"no daemon that takes frames runs on {paths.root}; start it with "
            f"`dance-ondevice run --state-dir {paths.root}`"
        )
    with index(paths) as database:
        matched = [(path, _sample_of(database, path.stem, camera)) for path in files]
    results = list(_send(published.ingest[0], matched))
    imported = sum(result.error is None for result in results)
    refused = len(results) - imported
    if as_json:
        print_json({"imported": imported, "refused": refused, "results": results})
    else:
        click.echo(f"{imported} imported, {refused} refused")
        if refused:
            print_table("Refused", ("file", "why"), [(r.file, r.error) for r in results if r.error])
    if refused:
        ctx.exit(1)


def _sample_of(database: Database, stem: str, camera: str | None) -> str | None:
    """The id of the sample that a label file is meant for; None when there is not exactly one."""
    if next(database.query("select 1 from samples where id = ?", [stem]), None):
        return stem
    number = _LAST_NUMBER.search(stem)
    if camera is None or number is None:
        return None
    rows = list(
        database.query(
            "select id from samples where camera = ? and seq = ? limit 2", [camera, int(number[1])]
        )
    )
    return str(rows[0]["id"]) if len(rows) == 1 else None


def _send(endpoint: str, files: list[tuple[Path, str | None]]) -> Iterator[Result]:
    """Send the labels one after another; each is stored, or refused, before the next one goes."""
    import zmq

    from dance_ondevice.daemon.wire import WireError, label_parts, parse_reply

    with zmq.Context() as context, context.socket(zmq.DEALER) as channel:
        channel.linger = 0
        channel.connect(endpoint)
        for path, sample in files:
            if sample is None:
                yield Result(path.name, None, "no sample of this name, or more than one")
                continue
            try:
                channel.send_multipart(label_parts(sample, path.read_bytes()))
            except OSError as error:
                yield Result(path.name, sample, error.strerror or str(error))
                continue
            if not channel.poll(_TIMEOUT_MS):
                raise WorkFailed(f"the daemon at {endpoint} did not answer for {path.name}; see its log")
            try:
                reply = parse_reply(channel.recv_multipart()[-1])
            except WireError as error:
                raise WorkFailed(f"{endpoint} is not the daemon's: {error}") from error
            yield Result(path.name, sample, None if reply.ok else reply.error or "refused without a reason")
