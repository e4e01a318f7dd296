"""How a result of ``bench console`` is shown on the page of results."""

from __future__ import annotations

from dance_ondevice.benchmarks.console.report import ConsoleReport
from dance_ondevice.benchmarks.markdown import table

#: Aimed for: milliseconds, megabytes, and what three people who watch may do to the masks' p99.
PAGE_MS, TAP_MS, RESIDENT_MB, RATIO = 1000.0, 100.0, 60.0, 1.05


def lines(report: ConsoleReport) -> list[str]:
    """The lines of the result's section, as Markdown."""
    alone, watched = report.alone, report.watched
    pixels = f"{report.tap_pixels / 1e6:.2f} million pixels"
    p99 = f"masks' p99 with {watched.viewers} viewers, {watched.latency_ms['99']:.1f} ms"
    figures = {
        "first page with style and scripts, the first time": (report.first_page_ms["first"], " ms", PAGE_MS),
        "the same, median": (report.first_page_ms["50"], " ms", PAGE_MS),
        f"a tap's region at {pixels}, p99": (report.tap_ms["99"], " ms", TAP_MS),
        "the same, in time of the processor": (report.tap_cpu_ms["99"], " ms", TAP_MS),
        "memory of the console's process": (max(report.resident_mb.values()), " MB", RESIDENT_MB),
        f"{p99}, by that without, {alone.latency_ms['99']:.1f} ms": (report.p99_ratio, "", RATIO),
    }
    return [
        f"A camera of {report.size[1]}x{report.size[0]} at {report.fps:g} frames a second, watched and not "
        f"watched in turns ({watched.masks} and {alone.masks} masks; medians "
        f"{watched.latency_ms['50']:.1f} and {alone.latency_ms['50']:.1f} ms). Viewers do over HTTP what the "
        "live page's script does; a tap is timed in node, which runs the page's own code, without drawing.",
        "",
        *table(
            ("figure", "measured", "at most", "reached"),
            [
                (name, f"{value:.3g}{unit}", f"{most:g}{unit}", "yes" if value <= most else "no")
                for name, (value, unit, most) in figures.items()
            ],
        ),
    ]
