"""A stream's result as a section of the results page, and its prequential curves as a picture."""

from __future__ import annotations

from html import escape

from dance_ondevice.benchmarks.markdown import number, table
from dance_ondevice.benchmarks.stream.results.report import RECOVERED, StreamReport, VariantReport
from dance_ondevice.benchmarks.stream.results.targets import targets

__all__ = ["lines", "svg"]

_WIDTH, _HEIGHT = 900, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 170, 34, 40
#: Okabe and Ito's colours, which stay apart for colour-blind readers.
_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#999999", "#7a5195")


def lines(report: StreamReport) -> list[str]:
    """Markdown: the table of variants, what they do, recoveries, and the picture where there is one."""
    settings = report.settings
    tasks = list(next(iter(report.variants.values())).final_miou)
    found = [
        f"Base model: {report.base}. Stream: "
        + ", ".join(f"{name} ({frames} frames)" for name, _, frames in report.segments)
        + f". Seeds {', '.join(map(str, report.seeds))}; figures are means, with the sample standard "
        "deviation behind ± where there is more than one seed. Peak memory of the measuring process "
        f"{report.peak_bytes / 2**20:.0f} MiB. What the columns mean is told in "
        "[definitions.md](definitions.md).",
        "",
        f"Joules are modelled: CPU seconds at {settings.watts:g} W. The stream does not wait: weights go "
        f"live when a board of {settings.macs_per_second / 1e9:g} GMAC/s would be done training them, at "
        f"{settings.frames_per_second:g} frames a second.",
        "",
        *table(
            (
                "variant",
                *(f"final {task}" for task in tasks),
                "prequential",
                "average",
                "BWT",
                "forgetting",
                "worst old",
                "CPU s",
                "J",
                "points per kJ",
                "promoted/rejected/rolled back/bad",
            ),
            [
                (
                    name,
                    *(_with_spread(v, f"final_miou {task}", v.final_miou[task]) for task in tasks),
                    _with_spread(v, "prequential_miou", v.prequential_miou),
                    _with_spread(v, "average", v.average),
                    number(v.backward_transfer, "+.4f"),
                    number(v.forgetting, "+.4f"),
                    number(v.worst_old, ".4f"),
                    number(v.cpu_seconds, ".1f"),
                    number(v.joules, ".0f"),
                    number(v.gain_per_kilojoule, "+.1f"),
                    f"{v.promotions}/{v.rejections}/{v.rollbacks}/{v.bad_promotions}",
                )
                for name, v in report.variants.items()
            ],
        ),
        "",
        *[f"- `{name}`: {v.words}; {_count(len(v.seeds), 'seed')}" for name, v in report.variants.items()],
        "",
        f"Frames (joules) until {RECOVERED:.0%} of the best gain over the frozen model is reached and kept:",
        "",
        *table(
            ("variant", *(name for name, _, _ in report.segments)),
            [
                (name, *(_recovery(v, segment) for segment, _, _ in report.segments))
                for name, v in report.variants.items()
                if v.recovery
            ],
        ),
    ]
    sizes = sorted({size for v in report.variants.values() for size in v.condition_bytes.values()})
    if sizes:
        found += ["", f"A condition keeps {sizes[0] / 1e3:.0f} to {sizes[-1] / 1e3:.0f} kB of its own."]
    checked = targets(report)
    if checked:
        rows = [(target.asked, target.found, "yes" if target.met else "no") for target in checked]
        found += ["", *table(("target", "found", "met"), rows)]
    if report.plot:
        found += ["", f"![faded prequential mIoU by frame]({report.plot})"]
    return found


def svg(report: StreamReport) -> str:
    """The faded prequential mIoU of each variant by frame, mean over seeds; one self-contained picture."""
    curves = {name: _mean_curve(v) for name, v in report.variants.items() if v.seeds and v.seeds[0].curve}
    frames = max((len(curve) for curve in curves.values()), default=1)
    top = max((value for curve in curves.values() for value in curve), default=1.0) * 1.05 or 1.0
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(frame: float, value: float) -> tuple[float, float]:
        return _LEFT + width * frame / max(1, frames - 1), _TOP + height * (1 - value / top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="18" font-size="14">{escape(report.stream)}: faded prequential mIoU by frame'
        "</text>",
    ]
    for tenth in range(int(top * 10) + 1):
        y = place(0, tenth / 10)[1]
        parts.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + width}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>'
        )
    start = 0
    for name, _, count in report.segments:
        x = place(start, 0)[0]
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_TOP + height}" stroke="#888" '
            f'stroke-dasharray="4 4"/><text x="{x + 4:.1f}" y="{_HEIGHT - 12}">{escape(name)}</text>'
        )
        start += count
    for index, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        points = " ".join("{:.1f},{:.1f}".format(*place(f, value)) for f, value in enumerate(curve))
        y = _TOP + 8 + 18 * index
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<line x1="{_WIDTH - _RIGHT + 14}" y1="{y}" x2="{_WIDTH - _RIGHT + 38}" y2="{y}" '
            f'stroke="{colour}" stroke-width="3"/>'
            f'<text x="{_WIDTH - _RIGHT + 44}" y="{y + 4}">{escape(name)}</text>'
        )
    return "".join([*parts, "</svg>\n"])


def _mean_curve(variant: VariantReport) -> list[float]:
    curves = [seed.curve for seed in variant.seeds]
    return [sum(values) / len(values) for values in zip(*curves, strict=True)]


def _recovery(variant: VariantReport, segment: str) -> str:
    found = variant.recovery[segment]
    return "never" if found.frames is None else f"{found.frames} ({found.joules or 0.0:.0f} J)"


def _with_spread(variant: VariantReport, name: str, value: float | None) -> str:
    spread = variant.spread.get(name)
    return number(value, ".4f") + (f" ± {spread:.4f}" if spread is not None and value is not None else "")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
