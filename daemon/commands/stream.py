"""``dance-ondevice stream``: send frames to a daemon."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.daemon.cli import EXIT_INTERRUPTED, FiniteRange, WorkFailed, json_option
from dance_ondevice.daemon.commands.access import client_curve, client_key_options
from dance_ondevice.daemon.system.state import CAMERA_NAME
from dance_ondevice.daemon.terminal import print_json, print_pairs, show_bytes
from dance_ondevice.daemon.wire.links import LinkError

if TYPE_CHECKING:
    from dance_ondevice.daemon.wire.sender import FrameSender, Pattern, StreamSummary

#: Seconds between two lines that report the stream's progress.
PROGRESS_SECONDS = 10.0


def _read_void(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    if value == "none":
        return ()
    try:
        ids = tuple(int(part) for part in value.split(","))
    except ValueError:
        ids = (-1,)
    if not all(0 <= number <= 255 for number in ids):
        raise click.BadParameter(f"{value!r} is neither none nor ids from 0 to 255 such as 11,12")
    return ids


def _check_camera(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if CAMERA_NAME.fullmatch(value) is None:
        raise click.BadParameter(
            f"{value!r} is no camera name: up to 64 letters, digits and _.- that begin with a letter or digit"
        )
    return value


@click.command()
@click.argument("source", envvar="DANCE_SOURCE")
@click.option(
    "--labels",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with a label <name>.png for images of a folder.",
)
@click.option(
    "--void",
    metavar="IDS",
    callback=_read_void,
    help='Ids in label files that mean "unlabelled", such as 11,12, or none; by default 11 in a folder named '
    "*annot (CamVid), else none.",
)
@click.option("--match", default="", metavar="TEXT", help="Only images with this in their name.")
@click.option(
    "--camera", default="camera", show_default=True, callback=_check_camera, help="Name of the camera."
)
@click.option(
    "--to",
    "endpoint",
    default="tcp://127.0.0.1:5555",
    show_default=True,
    metavar="ENDPOINT",
    help="Where the daemon listens; for pub the address to publish on.",
)
@click.option(
    "--pattern",
    type=click.Choice(("req", "dealer", "pub")),
    default="dealer",
    show_default=True,
    help="ZMQ pattern: one frame at a time, several, or without answers.",
)
@click.option(
    "--fps",
    type=FiniteRange(min=0, min_open=True),
    help="Frames a second; by default as fast as the daemon answers.",
)
@click.option("--limit", type=click.IntRange(1, 10**9), metavar="N", help="Send N frames at most.")
@click.option("--label-every", type=click.IntRange(min=1), metavar="K", help="Label every K-th frame only.")
@click.option(
    "--label-fraction",
    type=FiniteRange(0, 1),
    metavar="F",
    help="Label this share of the frames, evenly spread.",
)
@click.option(
    "--source-timeout",
    type=FiniteRange(min=0.1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="A camera or URL that sends no frame for so long is silent.",
)
@click.option(
    "--reconnect",
    type=FiniteRange(min=0),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="Open a silent camera or URL again for so long; after that the exit status is 1.",
)
@client_key_options
@json_option
@click.pass_context
def stream(
    ctx: click.Context,
    *,
    source: str,
    labels: Path | None,
    void: tuple[int, ...] | None,
    match: str,
    camera: str,
    endpoint: str,
    pattern: Pattern,
    fps: float | None,
    limit: int | None,
    label_every: int | None,
    label_fraction: float | None,
    source_timeout: float,
    reconnect: float,
    keys_file: Path | None,
    server_key_file: Path | None,
    as_json: bool,
) -> None:
    """Send frames from a folder, video, camera or URL to a daemon.

    SOURCE is a folder of images, a video file, /dev/videoN, a URL such as rtsp://..., - for a video on the
    standard input, a named pipe, or the synthetic camera
    "synthetic:street?condition=day&frames=200&seed=0&size=320x240&start=0" (each option may be left out).

    Waits while nobody listens, and sends again what was not answered, and footage that the daemon had no room
    for. Footage is dated as if it ended now.

    Says every 10 seconds how far it is. Exits with 0 if every frame was accepted, 1 if some were refused, not
    answered or not readable, or a live source fell silent, 130 after Ctrl-C.
    """
    if label_every is not None and label_fraction is not None:
        raise click.UsageError("--label-every and --label-fraction exclude each other")
    curve = client_curve(keys_file, server_key_file)
    import zmq

    from dance_ondevice.daemon.wire import sender as sending
    from dance_ondevice.daemon.wire.capture import Silence, SourceSilent
    from dance_ondevice.daemon.wire.sources import SourceError, iter_frames, told_passed_over
    from dance_ondevice.images.headers import ImageError

    try:
        frames = iter_frames(
            source,
            labels=labels,
            match=match,
            void=void,
            wants_label=chooser(label_every, label_fraction),
            silence=Silence(timeout=source_timeout, reconnect=reconnect, say=_say),
        )
    except SourceError as error:
        raise WorkFailed(str(error)) from error
    if frames.passed_over:
        _say(f"{source}{told_passed_over(frames.passed_over)}; sent are .jpg, .jpeg, .png and .webp")
    total = frames.count if frames.count is None or limit is None else min(frames.count, limit)
    interrupted, failure = False, None
    with zmq.Context() as context, _progress(total) as advance:
        try:
            sender = sending.FrameSender(
                endpoint,
                camera=camera,
                context=context,
                pattern=pattern,
                patient=not frames.endless,
                curve=curve,
                on_complaint=lambda where, why: click.echo(
                    f"{where} takes nothing: {why}; waiting", err=True
                ),
                on_wait=lambda where: click.echo(f"nobody listens at {where} yet; waiting", err=True),
                on_answer=advance,
            )
        except LinkError as error:
            raise WorkFailed(str(error)) from error
        try:
            with printed_every(PROGRESS_SECONDS, lambda: progress_of(sender), _say):
                sending.stream(frames, sender, fps=fps, limit=limit)
        except KeyboardInterrupt:
            interrupted = True
        except (OSError, ImageError) as error:
            failure = str(error) if isinstance(error, SourceSilent) else f"the source ended: {error}"
        finally:
            sender.close(at_once=interrupted)
    summary = dataclasses.replace(sender.summary(), passed_over=frames.passed_over)
    _report(summary, as_json)
    if interrupted:
        ctx.exit(EXIT_INTERRUPTED)
    if failure is not None:
        raise WorkFailed(failure)
    if frames.unreadable:
        file, why = next(iter(frames.unreadable.items()))
        raise WorkFailed(f"{len(frames.unreadable)} of the files were not sent, such as {file}: {why}")
    if not summary.sent:
        raise WorkFailed(
            f"{source} gave no frame: it is damaged, was not written to its end, or is of a codec that "
            "OpenCV has no decoder for here, such as AV1; "
            f"`ffmpeg -i {source} -c:v libx264 OUT.mp4` writes another"
        )
    if not summary.complete:
        ctx.exit(1)


def _say(line: str) -> None:
    click.echo(line, err=True)


def progress_of(sender: FrameSender) -> str:
    """The progress of a stream, or that it waits for somebody who takes its frames."""
    summary = sender.summary()
    if sender.waits:
        return f"{summary.seconds:.0f} s: still waiting: nobody takes frames at {sender.endpoint}"
    return progress_line(summary)


def progress_line(summary: StreamSummary) -> str:
    """The progress of a stream, in one line."""
    outcomes = ("kept", "dropped", "rejected", "overflow")
    told = ", ".join(f"{count} {name}" for name in outcomes if (count := getattr(summary, name)))
    return (
        f"{summary.seconds:.0f} s: {summary.sent} frames sent"
        + (f", {told}" if told else "")
        + (f", {summary.unanswered} not answered yet" if summary.unanswered else "")
    )


@contextlib.contextmanager
def printed_every(seconds: float, line: Callable[[], str], say: Callable[[str], None]) -> Iterator[None]:
    """Print a line at intervals, from a separate thread, since the work may be waiting for a camera."""
    done = threading.Event()

    def tell() -> None:
        while not done.wait(seconds):
            say(line())

    thread = threading.Thread(target=tell, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def chooser(every: int | None, fraction: float | None) -> Callable[[int], bool]:
    """A function that selects the labelled frames by index: every k-th, an evenly spread share, or all."""
    if every is not None:
        return lambda index: index % every == 0
    if fraction is not None:
        return lambda index: int((index + 1) * fraction + 1e-9) > int(index * fraction + 1e-9)
    return lambda index: True


@contextlib.contextmanager
def _progress(total: int | None) -> Iterator[Callable[[], None]]:
    """A progress bar while frames are sent; yields a function to be called for each frame."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("frames"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("frames", total=total)
        yield lambda: progress.advance(task)


def _report(summary: StreamSummary, as_json: bool) -> None:
    if as_json:
        print_json(summary)
        return
    print_pairs(
        [
            ("sent", summary.sent),
            ("labelled", summary.labelled),
            ("kept", summary.kept),
            *((f"  at scale {scale}", count) for scale, count in summary.scales.items()),
            ("dropped", summary.dropped),
            ("rejected", summary.rejected),
            ("overflow", summary.overflow),
            ("unanswered", summary.unanswered),
            ("sent again", summary.resent),
            ("volume", show_bytes(summary.bytes)),
            ("seconds", round(summary.seconds, 2)),
            *((f"passed over ({count})", kind) for kind, count in summary.passed_over.items()),
            *((f"error ({count})", text) for text, count in summary.errors.items()),
        ]
    )
