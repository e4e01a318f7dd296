"""Plots of a report: mIoU over the cost of training, and the channels of each layer before and after."""

from __future__ import annotations

from pathlib import Path

from dance_ondevice.benchmarks.figures import no_matplotlib, svg_style
from dance_ondevice.benchmarks.slimming.report import SlimmingReport, VariantReport


def draw(report: SlimmingReport, out: Path) -> list[str]:
    """Write ``<out>-cost.svg``, and ``<out>-channels.svg`` if channels were removed, beside the result.

    Returns:
        Lines for the user: the files that were written, or the package to install first.
    """
    if not svg_style():
        return [no_matplotlib()]
    files = [_cost(report, out.with_name(f"{out.stem}-cost.svg"))]
    slimmed = {name: v for name, v in report.variants.items() if any(a != b for a, b in v.widths.values())}
    if slimmed:
        name, variant = list(slimmed.items())[-1]
        files.append(_channels(name, variant, out.with_name(f"{out.stem}-channels.svg")))
    return [f"wrote {file}" for file in files]


def _cost(report: SlimmingReport, file: Path) -> Path:
    from matplotlib import pyplot as plt

    splits = list(next(iter(report.variants.values())).miou)
    figure, axes = plt.subplots(1, len(splits), figsize=(5 * len(splits), 3.6), squeeze=False, sharex=True)
    for axis, split in zip(axes[0], splits, strict=True):
        for name, variant in report.variants.items():
            points = [(point.seconds, point.miou[split]) for point in variant.curve]
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        dense = report.variants.get("dense")
        if dense is not None:
            axis.axhline(dense.miou[split], color="grey", linewidth=0.8, linestyle="--")
        axis.set(title=split, xlabel=f"{report.device.upper()} seconds of training", ylabel="mIoU")
        axis.grid(alpha=0.3)
    axes[0][-1].legend()
    figure.suptitle(f"{report.architecture}, {report.dataset}, {report.setting}, {report.protocol}")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return file


def _channels(name: str, variant: VariantReport, file: Path) -> Path:
    from matplotlib import pyplot as plt

    layers = list(variant.widths)
    figure, axis = plt.subplots(figsize=(max(6.0, 0.16 * len(layers)), 4.2))
    places = range(len(layers))
    axis.bar(places, [variant.widths[layer][0] for layer in layers], color="#d0d0d0", label="built with")
    axis.bar(places, [variant.widths[layer][1] for layer in layers], color="#2a6fb0", label="left")
    for place, layer in enumerate(layers):
        if variant.widths[layer][1] == 0:
            axis.annotate("gone", (place, 0), rotation=90, ha="center", color="#b02a2a", fontsize=6)
    axis.set_xticks(list(places), layers, rotation=90, fontsize=5)
    axis.set(ylabel="output channels", title=f"Channels of {name}")
    axis.legend()
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return file
