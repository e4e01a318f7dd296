"""``dance-ondevice bench ingest``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from dance_ondevice.benchmarks.ingest.report import TARGET_RATIO, IngestReport
from dance_ondevice.benchmarks.options import (
    folder_option,
    hand_over,
    made_here,
    note_option,
    out_option,
    say,
)
from dance_ondevice.benchmarks.result import command_line
from dance_ondevice.daemon.cli import FiniteRange, WorkFailed, json_option
from dance_ondevice.daemon.terminal import print_table


@click.command()
@click.option("--frames", type=click.IntRange(20), default=2000, show_default=True, help="At full speed.")
@click.option(
    "--window",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Acks outstanding.",
)
@click.option("--load-seconds", type=FiniteRange(0.1), default=10.0, show_default=True, help="Of each load.")
@click.option("--native", is_flag=True, help="Store frames as they come, at scale 1 alone.")
@click.option("--with-round", is_flag=True, help="Let a round run beside the four cameras (needs torch).")
@folder_option(
    "--folder",
    help="Where to make the daemon's state folder: the disk counts. By default where temporary files go.",
)
@out_option("Write the result here as well, as JSON, with a plot of latency over load beside it.")
@note_option
@json_option
def ingest(
    *,
    frames: int,
    window: int,
    load_seconds: float,
    native: bool,
    with_round: bool,
    folder: Path | None,
    out: Path | None,
    note: str,
    as_json: bool,
) -> None:
    """Compare the daemon's rate of frames with that of a loop that only receives and decodes grey.

    A real daemon gets 640x480 JPEGs from DEALER senders; a frame counts once it is answered, which for one
    that is kept means scored, decided and durable. Then: nearly all frames dropped, the time to the ack over
    the load, and four cameras at 30 frames a second.
    """
    from dance_ondevice.benchmarks.ingest.plots import draw
    from dance_ondevice.benchmarks.ingest.run import HEIGHT, WIDTH, Plan, run
    from dance_ondevice.benchmarks.ingest.sending import Stuck
    from dance_ondevice.daemon.control.client import ClientError
    from dance_ondevice.demo.process import DaemonDied

    base = Plan(frames=frames, window=window, load_seconds=load_seconds, with_round=with_round)
    plan = Plan(**{**base.__dict__, "scales": (1.0,)}) if native else base
    try:
        with tempfile.TemporaryDirectory(prefix="dance-bench-ingest-", dir=folder) as state:
            report = run(plan, Path(state), say=say)
    except (DaemonDied, Stuck, ClientError, OSError) as error:
        raise WorkFailed(str(error)) from error
    options = {
        "--frames": frames,
        "--window": window,
        "--load-seconds": f"{load_seconds:g}",
        "--native": native,
        "--with-round": with_round,
    }
    about = made_here(
        "ingest",
        command_line("bench ingest", options),
        f"synthetic street, {WIDTH}x{HEIGHT}, {plan.distinct} images of "
        f"{report.frame_bytes / 1e3:.0f} kB in turn",
        seed=0,
        note=note,
    )
    hand_over(about, report, _show, out=out, as_json=as_json, draw=draw)


def _show(report: IngestReport) -> None:
    print_table(
        f"Ingest of {report.frame[1]}x{report.frame[0]} JPEGs, scales "
        + ", ".join(f"{scale:g}" for scale in report.scales),
        (
            "stream", "frames", "kept", "dropped", "refused", "overflow", "frames/s", "p50 ms", "p99 ms",
            "daemon CPU us/frame", "round ran",
        ),
        [
            (
                s.name, s.sent, s.kept, s.dropped, s.refused, s.overflow, round(s.rate, 1),
                round(s.ack_ms["50"], 1), round(s.ack_ms["99"], 1), round(s.daemon_cpu_us),
                None if s.round_share is None else f"{s.round_share:.0%}",
            )
            for s in report.stretches
        ],
    )  # fmt: skip
    limits = report.limits
    click.echo(
        f"receive and decode grey alone: {report.baseline_rate:.0f} frames/s; the daemon at full speed does "
        f"{report.ratio:.0%} of that (target {TARGET_RATIO:.0%})"
    )
    click.echo(
        f"the board: grey decode {limits.decode_grey_us:.0f} us, colour decode "
        f"{limits.decode_colour_us:.0f} us, ZMQ {limits.zmq_messages_per_second:.0f} frames/s, "
        f"fsync {limits.fsync_ms:.2f} ms ({report.disk}), "
        f"convolution {'-' if limits.conv_gflops is None else f'{limits.conv_gflops:.0f} GFLOP/s'}"
    )
