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
        f"one core of the board convolves {gflops}. The whole of a mask, without decoding and resizing; all "
        "in turn. The slimmed model (45 % of the MACs) was not trained again.",
        "",
        *table(
            (
                "engine",
                "model",
                "scale",
                "threads",
                "p50 ms",
                "p99 ms",
                "CPU ms",
                "CPU ratio",
                "mIoU",
                "every pixel decided",
            ),
            [
                (
                    e.name,
                    e.model,
                    f"{e.scale:g}",
                    str(e.threads),
                    f"{e.ms['50']:.1f}",
                    f"{e.ms['99']:.1f}",
                    f"{e.cpu_ms:.1f}",
                    f"{e.cpu_ratio:.3f}",
                    f"{100 * e.miou:.2f}",
                    f"{100 * e.miou_exact:.2f}",
                )
                for e in report.engines
            ],
        ),
        *_beside_round(report),
    ]


def _beside_round(report: PredictReport) -> list[str]:
    if report.idle is None or report.beside_round is None:
        return ["", "No daemon was measured."]
    return [
        "",
        f"A daemon ({report.engine}) at {report.fps:g} frames/s: the 99th percentile beside a round is "
        f"{report.ratio:.2f} x that of the idle board (target {TARGET_RATIO}); {report.lost_at_swap} frames "
        f"without a mask; rounds: {', '.join(report.round_outcomes)}.",
        *_control(report.idle, report.beside_neighbour),
        "",
        *table(
            ("board", "frames", "masks", "lost", "p50 ms", "p99 ms", "versions", "beside the trainer"),
            [_row(s) for s in (report.idle, report.beside_neighbour, report.beside_round) if s],
        ),
    ]


def _control(idle: Served, beside: Served | None) -> list[str]:
    if beside is None:
        return []
    ratio = beside.latency_ms["99"] / idle.latency_ms["99"]
    return [
        f"Beside a foreign program that multiplies matrices at the lowest priority it is {ratio:.2f} x: what "
        "the processors of this machine share slows masks by so much, whatever runs.",
    ]


def _row(s: Served) -> tuple[str, ...]:
    counts = map(str, (s.sent, s.masks, s.lost))
    times = (f"{s.latency_ms[of]:.1f}" for of in ("50", "99"))
    return (s.name, *counts, *times, str(len(s.versions)), f"{s.round_share:.0%}")
