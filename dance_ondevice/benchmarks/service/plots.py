"""The picture of ``bench service``: CPU milliseconds for a frame, both builds side by side."""

from __future__ import annotations

from pathlib import Path

from dance_ondevice.benchmarks.figures import no_matplotlib
from dance_ondevice.benchmarks.service.report import ServiceReport, Used


def draw(report: ServiceReport, out: Path) -> list[str]:
    """Write ``<out>.svg`` beside the result.

    Returns:
        What to tell the user: the file, or what to install first.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        return [no_matplotlib()]
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "dance", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot as plt

    bars: list[tuple[str, float, float | None]] = [
        *(
            (scene.name, _of(scene.here), None if scene.there is None else _of(scene.there))
            for scene in report.scenarios.values()
        ),
        *(
            (f"ingest, {race.name}", race.here.cpu_ms, None if race.there is None else race.there.cpu_ms)
            for race in report.ingest.races
        ),
    ]
    figure, axis = plt.subplots(figsize=(7, 0.8 + 0.5 * len(bars)))
    for place, (_, here, there) in enumerate(bars):
        axis.barh(place - 0.2, here, 0.38, color="tab:blue", label=report.here if place == 0 else None)
        if there is not None:
            axis.barh(
                place + 0.2, there, 0.38, color="tab:grey", label=report.against if place == 0 else None
            )
    axis.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    axis.invert_yaxis()
    axis.set_xlabel("CPU ms a frame, the whole daemon")
    axis.grid(alpha=0.3, axis="x")
    if bars:
        axis.legend()
    figure.tight_layout()
    file = out.with_suffix(".svg")
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return [f"wrote {file}"]


def _of(used: Used) -> float:
    return 1e3 * (used.cpu_seconds + used.children_cpu_seconds) / used.sent
