"""How a result of ``bench ingest`` is shown on the page of results."""

from __future__ import annotations

from dance_ondevice.benchmarks.ingest.report import TARGET_ACK_MS, TARGET_RATIO, IngestReport, Stretch
from dance_ondevice.benchmarks.markdown import table


def lines(report: IngestReport) -> list[str]:
    """The lines of the result's section, as Markdown."""
    limits = report.limits
    gflops = "-" if limits.conv_gflops is None else f"{limits.conv_gflops:.0f} GFLOP/s"
    scales = ", ".join(f"{scale:g}" for scale in report.scales)
    columns = (
        "stream", "frames", "kept", "dropped", "refused", "overflow", "frames/s", "p50 ms", "p99 ms",
        "CPU us a frame", "round ran",
    )  # fmt: skip
    return [
        f"{report.frame[1]}x{report.frame[0]} JPEGs of {report.frame_bytes / 1e3:.0f} kB, candidate scales "
        f"{scales}, {report.window} acks outstanding. A loop that only receives and decodes grey does "
        f"{report.baseline_rate:.0f} frames/s;",
        f"the daemon at full speed does {report.ratio:.0%} of that (target {TARGET_RATIO:.0%}). A kept frame "
        "is answered when it is durable.",
        "",
        f"The board: grey decode {limits.decode_grey_us:.0f} us, colour decode "
        f"{limits.decode_colour_us:.0f} us, ZMQ {limits.zmq_messages_per_second:.0f} frames/s, fsync "
        f"{limits.fsync_ms:.2f} ms ({report.disk or 'unknown disk'}), convolution {gflops} on one thread. "
        f"Target of p99 with four cameras: {TARGET_ACK_MS:g} ms, no overflow.",
        "",
        *table(columns, [_row(stretch) for stretch in report.stretches]),
    ]


def _row(s: Stretch) -> tuple[str, ...]:
    ran = "-" if s.round_share is None else f"{s.round_share:.0%}"
    cells = (
        s.name, s.sent, s.kept, s.dropped, s.refused, s.overflow, f"{s.rate:.0f}", f"{s.ack_ms['50']:.1f}",
        f"{s.ack_ms['99']:.1f}", f"{s.daemon_cpu_us:.0f}", ran,
    )  # fmt: skip
    return tuple(map(str, cells))
