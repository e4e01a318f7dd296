"""How a result of ``bench predict`` is shown on the page of results."""

from __future__ import annotations

from dance_ondevice.benchmarks.markdown import table
from dance_ondevice.benchmarks.predict.report import TARGET_RATIO, PredictReport, Served


def lines(report: PredictReport) -> list[str]:
    """The lines of the result's section, as Markdown."""
    gflops = "-" if report.conv_gflops is None else f"{report.conv_gflops:.0f} GFLOP/s"
    return [
        f"{report.architecture}, {report.parameters / 1e3:.0f} k parameters, "
        f"{report.size[1]}x{report.size[0]}; "
        f"one core of the board convolves {gflops}. Engines in turn.",
        "",
        *table(
            ("engine", "threads", "p50 ms", "p99 ms", "CPU ms", "largest difference of a logit"),
            [
                (
                    e.name,
                    str(e.threads),
                    f"{e.ms['50']:.1f}",
                    f"{e.ms['99']:.1f}",
                    f"{e.cpu_ms:.1f}",
                    f"{e.max_difference:.1g}",
                )
                for e in report.engines
            ],
        ),
        "",
        f"A daemon ({report.engine}) at {report.fps:g} frames/s: the 99th percentile beside a round is "
        f"{report.ratio:.2f} x that of the idle board (target {TARGET_RATIO}); {report.lost_at_swap} frames "
        f"without a mask; rounds: {', '.join(report.round_outcomes)}.",
        "",
        *table(
            ("board", "frames", "masks", "lost", "p50 ms", "p99 ms", "versions", "beside the trainer"),
            [_row(served) for served in (report.idle, report.beside_round)],
        ),
    ]


def _row(s: Served) -> tuple[str, ...]:
    counts = map(str, (s.sent, s.masks, s.lost))
    times = (f"{s.latency_ms[of]:.1f}" for of in ("50", "99"))
    return (s.name, *counts, *times, str(len(s.versions)), f"{s.round_share:.0%}")
