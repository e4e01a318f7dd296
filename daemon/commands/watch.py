"""``dance-ondevice watch``: masks over their frames, without a window."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, state_dir_option
from dance_ondevice.daemon.commands.access import (
    client_curve,
    client_key_options,
    index,
    model_classes,
    no_daemon,
    target,
)
from dance_ondevice.daemon.terminal import Waiting
from dance_ondevice.files import read_regular

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dance_ondevice.daemon.security.curve import ClientCurve
    from dance_ondevice.daemon.system.state import StatePaths
    from dance_ondevice.daemon.watching.feed import Classes, MaskFeed, SeenMask
    from dance_ondevice.daemon.watching.outputs import Output

_DEFAULT_OUT = Path("overlay.png")


@click.command()
@click.option("--camera", metavar="NAME", help="Only this camera's masks.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="The latest picture, overlay.png by default; in a FOLDER one for each camera. A FILE that ends in "
    ".mp4 or .avi becomes a video of one camera.",
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
    """Show masks over their frames, as an image, a video or a page.

    Frames come from the daemon's store: one that it did not keep, or that of a daemon elsewhere (--from), is
    shown as its colours alone. The page can be reached from this machine only. Ctrl-C ends it.
    """
    from dance_ondevice.daemon.system.signals import sigterm_as_interrupt
    from dance_ondevice.daemon.watching.video import VideoError

    curve = client_curve(keys_file, server_key_file)
    paths = None if endpoint else target(config_path, state_dir)
    endpoint = endpoint or _published(paths)
    if out is None and listen is None:
        out = _DEFAULT_OUT
    shown = 0
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(sigterm_as_interrupt())
            outputs = _outputs(stack, out, listen, camera)
            feed = _subscribe(stack, endpoint, camera, curve)
            waiting = Waiting()
            stack.callback(waiting.close)
            with contextlib.suppress(KeyboardInterrupt):
                for seen in _paced(feed, min(output.seconds for output in outputs), waiting, endpoint):
                    classes = feed.classes.get(seen.camera) or _classes(
                        paths, config_path, int(seen.mask.max())
                    )
                    picture = _picture(paths, seen, classes)
                    told = [output.put(seen.camera, picture) for output in outputs]
                    shown += 1
                    words = filter(None, (f"{shown} pictures", f"{seen.camera} by {seen.version}", *told))
                    waiting.say("; ".join(words))
                    if shown == count:
                        break
    except VideoError as error:
        raise WorkFailed(str(error)) from error
    except OSError as error:
        raise WorkFailed(f"{error.filename or out}: {error.strerror or error}") from error
    click.echo(f"{shown} pictures" + (f" in {out}" if out is not None and shown else ""))


def _outputs(
    stack: contextlib.ExitStack, out: Path | None, listen: str | None, camera: str | None
) -> Sequence[Output]:
    """Everything that the options ask for, open until the end of the stack."""
    from dance_ondevice.daemon.watching.outputs import OneVideo, OnPage, PictureFiles
    from dance_ondevice.daemon.watching.page import Pictures, WatchPage
    from dance_ondevice.daemon.watching.video import CODECS, Video

    found: list[Output] = []
    if out is not None and out.suffix.lower() in CODECS and not out.is_dir():
        found.append(OneVideo(stack.enter_context(Video(out)), camera))
    elif out is not None:
        try:
            found.append(PictureFiles(out))
        except ValueError as error:
            raise click.UsageError(f"--out {error}") from error
    if listen is not None:
        pictures = Pictures()
        try:
            page = stack.enter_context(WatchPage(*_address(listen), pictures))
        except (ValueError, OSError) as error:
            raise WorkFailed(f"--http {listen}: {error}") from error
        click.echo(f"look at {page.url}")
        found.append(OnPage(pictures))
    return found


def _subscribe(
    stack: contextlib.ExitStack, endpoint: str, camera: str | None, curve: ClientCurve | None
) -> MaskFeed:
    import zmq

    from dance_ondevice.daemon.watching.feed import MaskFeed

    try:
        return stack.enter_context(MaskFeed(endpoint, camera=camera, curve=curve))
    except zmq.ZMQError as error:
        raise WorkFailed(f"{endpoint}: {error}") from error


def _paced(feed: MaskFeed, seconds: float, waiting: Waiting, endpoint: str) -> Iterator[SeenMask]:
    """The newest mask again and again, at most one in so many seconds, and words while none comes."""
    last = -math.inf
    while True:
        seen = feed.next(1.0)
        if seen is None:
            waiting.say(f"waits for masks from {endpoint}; do frames come? (dance-ondevice status)")
        elif (now := time.monotonic()) - last >= seconds:
            last = now
            yield seen


def _published(paths: StatePaths | None) -> str:
    """The endpoint at which the running daemon publishes masks."""
    from dance_ondevice.daemon.control.instances import read_daemon_file

    found = read_daemon_file(paths) if paths is not None else None
    if found is None:
        said = no_daemon(paths) if paths is not None else "no daemon runs"
        raise WorkFailed(f"{said}; or name one with --from")
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
