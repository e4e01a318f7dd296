"""How a result of ``bench ingest`` is shown on the page of results."""

from __future__ import annotations

from dance_ondevice.benchmarks.ingest.report import TARGET_ACK_MS, TARGET_RATIO, IngestReport, Stretch


def lines(report: IngestReport) -> list[str]:
    """Markdown."""
    limits = report.limits
    gflops = "-" if limits.conv_gflops is None else f"{limits.conv_gflops:.0f} GFLOP/s"
    return [
        f"{report.frame[1]}x{report.frame[0]} JPEGs of {report.frame_bytes / 1e3:.0f} kB, candidate scales "
        f"{', '.join(f'{scale:g}' for scale in report.scales)}, {report.window} acks outstanding. A loop that only "
        f"receives and decodes grey does {report.baseline_rate:.0f} frames/s; the daemon at full speed does",
        f"{report.ratio:.0%} of that (target {TARGET_RATIO:.0%}). A kept frame is answered when it is durable.",
        "",
        f"The board: grey decode {limits.decode_grey_us:.0f} us, colour decode {limits.decode_colour_us:.0f} us, "
        f"ZMQ {limits.zmq_messages_per_second:.0f} frames/s, fsync {limits.fsync_ms:.2f} ms "
        f"({report.disk or 'unknown disk'}), convolution {gflops} on one thread. Target of p99 with four cameras: "
        f"{TARGET_ACK_MS:g} ms, no overflow.",
        "",
        "| stream | frames | kept | dropped | refused | overflow | frames/s | p50 ms | p99 ms | CPU us a frame | round ran |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(_row(stretch) for stretch in report.stretches),
    ]


def _row(s: Stretch) -> str:
    cells = (
        s.name, s.sent, s.kept, s.dropped, s.refused, s.overflow, f"{s.rate:.0f}", f"{s.ack_ms['50']:.1f}",
        f"{s.ack_ms['99']:.1f}", f"{s.daemon_cpu_us:.0f}", "-" if s.round_share is None else f"{s.round_share:.0%}",
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"
