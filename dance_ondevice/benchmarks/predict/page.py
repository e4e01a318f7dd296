"""How a result of ``bench predict`` is shown on the page of results."""

from __future__ import annotations

from dance_ondevice.benchmarks.predict.report import TARGET_RATIO, PredictReport


def lines(report: PredictReport) -> list[str]:
    """Markdown."""
    gflops = "-" if report.conv_gflops is None else f"{report.conv_gflops:.0f} GFLOP/s"
    return [
        f"{report.architecture}, {report.parameters / 1e3:.0f} k parameters, "
        f"{report.size[1]}x{report.size[0]}; "
        f"one core of the board convolves {gflops}. Engines with {report.threads} thread(s), in turn.",
        "",
        "| engine | p50 ms | p99 ms | CPU ms | largest difference of a logit |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {e.name} | {e.ms['50']:.1f} | {e.ms['99']:.1f} | {e.cpu_ms:.1f} | {e.max_difference:.1g} |"
            for e in report.engines
        ),
        "",
        f"A daemon ({report.engine}) at {report.fps:g} frames/s: the 99th percentile beside a round is "
        f"{report.ratio:.2f} x that of the idle board (target {TARGET_RATIO}); {report.lost_at_swap} frames "
        f"without a mask; the round was {report.round_outcome}.",
        "",
        "| board | frames | masks | lost | p50 ms | p99 ms | versions | beside the trainer |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {s.name} | {s.sent} | {s.masks} | {s.lost} | {s.latency_ms['50']:.1f} "
            f"| {s.latency_ms['99']:.1f} | {len(s.versions)} | {s.round_share:.0%} |"
            for s in (report.idle, report.beside_round)
        ),
    ]
