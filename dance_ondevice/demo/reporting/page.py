"""``report.html``: one page that needs nothing from outside itself; pictures are data, charts inline SVG."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dance_ondevice.charts import Bar, Group, Level, Series, environment, grouped_bars
from dance_ondevice.demo.reporting.report import DemoReport, Phase
from dance_ondevice.demo.reporting.verdict import described, judge, macs_in_words

_METHODS = {
    "counter": "read from an energy counter of the hardware",
    "integrated": "integrated from measured power",
    "modelled": "modelled: CPU seconds times the watts in the configuration, nothing was measured",
}


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """One evaluation frame of a phase and the models' masks of it, as encoded images."""

    phase: str
    frame_jpeg: bytes
    label_png: bytes
    frozen_png: bytes
    live_png: bytes


@dataclass(frozen=True)
class Swatch:
    """A class and its colour in the pictures, components from 0 to 255."""

    name: str
    rgb: tuple[int, int, int]


def render(report: DemoReport, pictures: Sequence[Pictures], legend: Sequence[Swatch]) -> str:
    """Return the page as HTML; all text of the report is escaped."""
    from markupsafe import Markup

    templates = environment("dance_ondevice.demo.reporting")
    templates.filters.update(
        base64=lambda data: b64encode(data).decode(),
        joules=_joules,
        score=lambda value: Markup("&ndash;") if value is None else f"{value:.3f}",
        described=described,
        tone=_tone,
    )
    series = _series(report.phases)
    frames = report.frames
    return templates.get_template("page.html").render(
        report=report,
        verdict=judge(report),
        tiles=list(_tiles(report)),
        series=series,
        # The chart has escaped its text already.
        chart=Markup(_chart(report.phases, series)) if report.phases else "",
        legend=legend,
        pictures=pictures,
        live_at={p.name: p.live_version or "" for p in report.phases}
        | {p.phase: "" for p in pictures if p.phase not in {q.name for q in report.phases}},
        scales=sorted({*frames.kept_by_scale, *frames.dropped_by_scale}, reverse=True),
        method=_METHODS.get(report.joules.method, report.joules.method),
    )


def _tiles(report: DemoReport) -> Iterable[tuple[str, str]]:
    frames = report.frames
    promoted = sum(r.outcome == "promoted" for r in report.rounds)
    yield f"{frames.kept} of {frames.sent}", "frames kept"
    yield str(report.masks_received), "masks received"
    yield f"{promoted} of {len(report.rounds)}", "rounds promoted"
    for phase in report.phases:
        if phase.drifted:
            yield f"{phase.gain.point:+.3f}", f"mIoU on {phase.name}, live against frozen"
    first = next((v for v in report.versions if v.parent is None), None)
    last = next((v for v in report.versions if v.status == "live"), None)
    if first is not None and last is not None and first.macs:
        change = 100 * (last.macs / first.macs - 1)
        yield f"{change:+.0f} %", "MACs per image, last live model against the first"
    yield _joules(report.joules.training), f"for training, {report.joules.method}"


def _series(phases: Sequence[Phase]) -> tuple[Series, ...]:
    def bars(name: str, css_class: str, scores: Sequence[float]) -> Series:
        return Series(
            name=name,
            css_class=css_class,
            bars=tuple(
                Bar(value=score, label=f"{score:.2f}", title=f"{p.name}, {name}: {score:.3f}")
                for p, score in zip(phases, scores, strict=True)
            ),
        )

    return (
        bars("frozen first model", "frozen-fill", [p.miou_frozen for p in phases]),
        bars("live model at the phase's end", "live-fill", [p.miou_live for p in phases]),
        bars("last live model", "final-fill", [p.miou_final for p in phases]),
    )


def _chart(phases: Sequence[Phase], series: Sequence[Series]) -> str:
    highest = max(bar.value for one in series for bar in one.bars)
    ticks = max(1, math.ceil(highest * 10 - 1e-9))
    step = 1 if ticks <= 5 else 2
    return grouped_bars(
        "mIoU by phase",
        [Group(name=p.name, note=_note(p)) for p in phases],
        series,
        [Level(value=tick / 10, label=f"{tick / 10:.1f}") for tick in range(0, ticks + step, step)],
    )


def _note(phase: Phase) -> str:
    """The text below a phase's bars: the live model's gain, and its cost of inference."""
    macs = macs_in_words(phase.macs_change)
    return f"{phase.gain.point:+.2f} mIoU" + (f", {macs}" if macs else "")


def _tone(phase: Phase) -> str:
    if phase.gain.at_least() > 0:
        return "good"
    return "short" if phase.gain.at_most() < 0 else ""


def _joules(value: float) -> str:
    return f"{value / 1000:.2f} kJ" if value >= 1000 else f"{value:.0f} J"
