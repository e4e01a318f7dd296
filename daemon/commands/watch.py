"""``dance-ondevice watch``: masks over their frames, without a window."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, state_dir_option
from dance_ondevice.daemon.commands.access import (
    client_curve,
    client_key_options,
    index,
    model_classes,
    target,
)
from dance_ondevice.daemon.terminal import Waiting
from dance_ondevice.files import read_regular

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dance_ondevice.daemon.system.state import StatePaths
    from dance_ondevice.daemon.watching.feed import Classes, SeenMask

_DEFAULT_OUT = Path("overlay.png")
#: Seconds between two pictures: people cannot take in more than about one a second.
_PICTURE_SECONDS = 1.0


@click.command()
@click.option("--camera", metavar="NAME", help="Only this camera's masks.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="The latest picture, overlay.png by default; in a FOLDER one for each camera.",
)
@click.option(
    "--http", "listen", metavar="HOST:PORT", help="Serve a page on loopback, such as 127.0.0.1:8088."
)
@click.option(
    "--from",
    "endpoint",
    metavar="ENDPOINT",
    help="Where masks are published; by default by the running daemon.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N pictures.")
@client_key_options
@config_option
@state_dir_option
def watch(
    *,
    camera: str | None,
    out: Path | None,
    listen: str | None,
    endpoint: str | None,
    count: int | None,
    keys_file: Path | None,
    server_key_file: Path | None,
    config_path: Path | None,
    state_dir: Path | None,
) -> None:
    """Show masks over their frames, in an image file or on a page.

    Frames come from the daemon's store: one that it did not keep, or that of a daemon elsewhere (--from), is
    shown as its colours alone. The page can be reached from this machine only. Ctrl-C ends it.
    """
    import zmq

    from dance_ondevice.daemon.watching.feed import MaskFeed
    from dance_ondevice.daemon.watching.page import Pictures, WatchPage
    from dance_ondevice.files import write_whole
    from dance_ondevice.images.codec import encode_png

    curve = client_curve(keys_file, server_key_file)
    paths = None if endpoint else target(config_path, state_dir)
    endpoint = endpoint or _published(paths)
    if out is None and listen is None:
        out = _DEFAULT_OUT
    pictures = Pictures()
    waiting = Waiting()
    with contextlib.ExitStack() as stack:
        stack.callback(waiting.close)
        if listen is not None:
            try:
                page = stack.enter_context(WatchPage(*_address(listen), pictures))
            except (ValueError, OSError) as error:
                raise WorkFailed(f"--http {listen}: {error}") from error
            click.echo(f"look at {page.url}")
        try:
            feed = stack.enter_context(MaskFeed(endpoint, camera=camera, curve=curve))
        except zmq.ZMQError as error:
            raise WorkFailed(f"{endpoint}: {error}") from error
        shown, last = 0, 0.0
        while count is None or shown < count:
            seen = feed.next(1.0)
            if seen is None:
                waiting.say(f"{shown} pictures; waits for masks of {camera or 'any camera'} from {endpoint}")
                continue
            if time.monotonic() - last < _PICTURE_SECONDS:
                continue
            last = time.monotonic()
            classes = feed.classes.get(seen.camera) or _classes(paths, config_path, int(seen.mask.max()))
            png = encode_png(_picture(paths, seen, classes))
            pictures.put(seen.camera, png)
            written = ""
            if out is not None:
                file = _file(out, seen.camera)
                try:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_whole(file, png)
                except OSError as error:
                    raise WorkFailed(f"{file}: {error.strerror or error}") from error
                written = f", written to {file}"
            shown += 1
            waiting.say(f"{shown} pictures; {seen.camera} by {seen.version}{written}")
    click.echo(f"{shown} pictures" + (f" in {out}" if out is not None else ""))


def _published(paths: StatePaths | None) -> str:
    """The endpoint at which the running daemon publishes masks."""
    from dance_ondevice.daemon.control.instances import read_daemon_file

    found = read_daemon_file(paths) if paths is not None else None
    if found is None:
        where = f" on {paths.root}" if paths is not None else ""
        raise WorkFailed(
            f"no daemon runs{where}; start it with `dance-ondevice run`, or name one with --from"
        )
    if not found.inference:
        raise WorkFailed("the daemon publishes no masks: inference.enabled is false in its configuration")
    # An endpoint that is bound to every address is reached through loopback here.
    return found.inference.replace("//0.0.0.0:", "//127.0.0.1:").replace("//*:", "//127.0.0.1:")


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise click.UsageError(f"--http {listen!r} is not HOST:PORT, such as 127.0.0.1:8088")
    return host.strip("[]"), int(port)


def _classes(paths: StatePaths | None, config_path: Path | None, highest: int) -> Classes:
    """Names and colours of classes where the daemon has not published them."""
    from dance_ondevice.daemon.watching.feed import Classes
    from dance_ondevice.images.labels import IGNORE, class_colours

    names = model_classes(paths, config_path) if paths is not None else ()
    known = len(names) or (1 if highest == IGNORE else highest + 1)
    return Classes(names, tuple(class_colours(known)))


def _picture(paths: StatePaths | None, seen: SeenMask, classes: Classes) -> NDArray[np.uint8]:
    from dance_ondevice.images.overlay import overlay

    at = time.strftime("%H:%M:%S", time.localtime(seen.captured_at))
    return overlay(
        seen.mask,
        _frame(paths, seen.id),
        classes.names,
        classes.palette,
        caption=f"{seen.camera} {at} {seen.version}",
    )


def _frame(paths: StatePaths | None, sample: str) -> NDArray[np.uint8] | None:
    """The stored frame; None where it was not kept, is not written yet or cannot be read."""
    from dance_ondevice.images.codec import decode_colour
    from dance_ondevice.images.headers import ImageError

    if paths is None:
        return None
    try:
        with index(paths) as database:
            row = database.execute("select path from samples where id = ?", [sample]).fetchone()
        return decode_colour(read_regular(paths.root / row[0])) if row else None
    except (OSError, ImageError, WorkFailed):
        return None


def _file(out: Path, camera: str) -> Path:
    """The file of a camera's picture: ``out``, or one in it where that is a folder."""
    if out.suffix.lower() == ".png" and not out.is_dir():
        return out
    if out.suffix and not out.is_dir():
        raise click.UsageError(f"--out {os.fspath(out)}: give a .png file or a folder")
    return out / (re.sub(r"[^A-Za-z0-9_-]", "_", camera) + ".png")
