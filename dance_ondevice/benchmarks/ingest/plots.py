"""The picture of ``bench ingest``: how long an ack takes, over the load."""

from __future__ import annotations

from pathlib import Path

from dance_ondevice.benchmarks.figures import no_matplotlib, svg_style
from dance_ondevice.benchmarks.ingest.report import TARGET_ACK_MS, IngestReport


def draw(report: IngestReport, out: Path) -> list[str]:
    """Write ``<out>-latency.svg`` beside the result.

    Returns:
        Lines for the user: the file that was written, or the package to install first.
    """
    if not svg_style():
        return [no_matplotlib()]
    from matplotlib import pyplot as plt

    loads = [(s.offered_per_second, s) for s in report.stretches if s.cameras == 1]
    figure, axis = plt.subplots(figsize=(6, 3.6))
    for percentile in ("50", "99"):
        points = [(rate, s.ack_ms[percentile]) for rate, s in loads if rate is not None]
        axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=f"{percentile}th percentile")
    for stretch in report.stretches:
        if stretch.cameras > 1 and stretch.offered_per_second is not None:
            axis.plot(
                [stretch.offered_per_second],
                [stretch.ack_ms["99"]],
                marker="x",
                linestyle="",
                label=f"{stretch.name}, 99th",
            )
    axis.axhline(TARGET_ACK_MS, color="grey", linewidth=0.8, linestyle="--")
    axis.set(xlabel="frames offered a second", ylabel="ms from sending to the ack", ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    file = out.with_name(f"{out.stem}-latency.svg")
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return [f"wrote {file}"]
