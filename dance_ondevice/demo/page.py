"""``report.html``: one page that needs nothing from outside itself; pictures are data, charts are inline SVG."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from dance_ondevice.demo.chart import Series, grouped_bars
from dance_ondevice.demo.report import DemoReport, Phase, Round, Version

_METHODS = {
    "counter": "read from an energy counter of the hardware",
    "integrated": "integrated from measured power",
    "modelled": "modelled: CPU seconds times the watts in the configuration, nothing was measured",
}


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """One fresh frame of a phase and what the models made of it; encoded images."""

    phase: str
    frame_jpeg: bytes
    label_png: bytes
    frozen_png: bytes
    live_png: bytes


@dataclass(frozen=True)
class Swatch:
    """A class and the colour that stands for it in the pictures, 0 to 255 each."""

    name: str
    rgb: tuple[int, int, int]


def render(report: DemoReport, pictures: Sequence[Pictures], legend: Sequence[Swatch]) -> str:
    """The whole page; whatever is text in the report is escaped."""
    style = files("dance_ondevice.demo").joinpath("page.css").read_text(encoding="utf-8")
    body = "".join(
        (
            _head(report),
            _tiles(report),
            _miou(report),
            _pictures(report, pictures, legend),
            _frames(report),
            _versions(report),
            _joules(report),
            _rounds(report),
        )
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>dance-ondevice demo, seed {report.seed}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _head(report: DemoReport) -> str:
    wrong = report.shortcomings()
    verdict = (
        f'<p><span class="verdict bad">failed: {escape("; ".join(wrong))}</span></p>'
        if wrong
        else '<p><span class="verdict good">all conditions met</span></p>'
    )
    phases = ", ".join(escape(p.name) for p in report.phases)
    return (
        "<header><h1>A segmentation model that keeps up with its camera</h1>"
        f'<p class="lead">The daemon received a synthetic street camera whose scene drifted ({phases}), chose what '
        "to keep, trained and slimmed its model in the background, and put a candidate live only where it won on "
        f"held-out frames. Seed {report.seed}, {report.seconds:.0f} seconds in all.</p>{verdict}</header>\n"
    )


def _tiles(report: DemoReport) -> str:
    frames = report.frames
    promoted = sum(r.outcome == "promoted" for r in report.rounds)
    drifted = [p for p in report.phases if p.drifted]
    tiles = [
        (f"{frames.kept} of {frames.sent}", "frames kept"),
        (str(report.masks_received), "masks received"),
        (f"{promoted} of {len(report.rounds)}", "rounds promoted"),
        *((f"{p.miou_live - p.miou_frozen:+.3f}", f"mIoU on {p.name}, live against frozen") for p in drifted),
        *_macs_tile(report),
        (_joules_text(report.joules.training), f"for training, {report.joules.method}"),
    ]
    inner = "".join(f'<div class="tile"><b>{escape(b)}</b><span>{escape(s)}</span></div>' for b, s in tiles)
    return f'<div class="tiles">{inner}</div>\n'


def _macs_tile(report: DemoReport) -> Iterable[tuple[str, str]]:
    first = next((v for v in report.versions if v.parent is None), None)
    last = next((v for v in report.versions if v.status == "live"), None)
    if first is not None and last is not None and first.macs:
        yield (
            f"{100 * (last.macs / first.macs - 1):+.0f} %",
            "MACs per image, last live model against the first",
        )


def _miou(report: DemoReport) -> str:
    series = (
        Series("frozen first model", "frozen-fill", tuple(p.miou_frozen for p in report.phases)),
        Series("live model at the phase's end", "live-fill", tuple(p.miou_live for p in report.phases)),
        Series("last live model", "final-fill", tuple(p.miou_final for p in report.phases)),
    )
    key = "".join(f'<span><i class="{s.css_class}"></i>{escape(s.name)}</span>' for s in series)
    rows = "".join(_phase_row(p) for p in report.phases)
    return (
        "<section><h2>mIoU by phase</h2>"
        f'<p class="note">On {report.eval_frames} fresh frames a phase, of a street with another seed than the '
        "streamed one: no round saw any of them. One confusion matrix a phase. The last live model is scored on "
        "every phase, so that anything it forgot shows.</p>"
        f'<div class="key">{key}</div>'
        + grouped_bars("mIoU by phase", tuple(p.name for p in report.phases), series)
        + '<div class="wide"><table><tr><th>phase</th><th class="n">streamed</th><th class="n">frames</th>'
        '<th class="n">masks</th><th>live at its end</th><th class="n">frozen</th><th class="n">live</th>'
        f'<th class="n">last live</th></tr>{rows}</table></div></section>\n'
    )


def _phase_row(phase: Phase) -> str:
    return (
        f'<tr><td>{escape(phase.name)}</td><td class="n">{phase.seconds:.0f} s</td><td class="n">{phase.frames}</td>'
        f'<td class="n">{phase.masks}</td><td>{escape(phase.live_version or "unknown")}</td>'
        f'<td class="n">{phase.miou_frozen:.3f}</td><td class="n">{phase.miou_live:.3f}</td>'
        f'<td class="n">{phase.miou_final:.3f}</td></tr>'
    )


def _pictures(report: DemoReport, pictures: Sequence[Pictures], legend: Sequence[Swatch]) -> str:
    versions = {p.name: p.live_version for p in report.phases}
    swatches = "".join(
        f'<span><i style="background:rgb({s.rgb[0]},{s.rgb[1]},{s.rgb[2]})"></i>{escape(s.name)}</span>'
        for s in legend
    )
    shots = "".join(
        f'<h3>{escape(p.phase)}</h3><div class="shots">'
        + _figure("jpeg", p.frame_jpeg, "frame", p.phase)
        + _figure("png", p.label_png, "label", p.phase)
        + _figure("png", p.frozen_png, "frozen first model", p.phase)
        + _figure("png", p.live_png, f"live model {versions.get(p.phase) or ''}".rstrip(), p.phase)
        + "</div>"
        for p in pictures
    )
    return (
        "<section><h2>What the models see</h2>"
        f'<p class="note">One of the fresh frames of each phase.</p><div class="key">{swatches}</div>{shots}'
        "</section>\n"
    )


def _figure(kind: str, data: bytes, caption: str, phase: str) -> str:
    uri = f"data:image/{kind};base64,{b64encode(data).decode()}"
    return (
        f'<figure><img src="{uri}" alt="{escape(phase)}: {escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _frames(report: DemoReport) -> str:
    frames = report.frames
    outcomes = (
        ("kept", frames.kept, f"stored; {frames.labelled} of them with a label"),
        ("dropped", frames.dropped, "scored, shown to the model, not stored: too simple to learn much from"),
        ("rejected", frames.rejected, "refused as invalid"),
        ("overflow", frames.overflow, "lost because the board was too slow"),
    )
    rows = "".join(
        f'<tr><td>{name}</td><td class="n">{count}</td><td>{_meter(count, frames.sent)}</td><td>{what}</td></tr>'
        for name, count, what in outcomes
    )
    scales = sorted({*frames.kept_by_scale, *frames.dropped_by_scale}, reverse=True)
    by_scale = "".join(
        f'<tr><td>{scale:g}</td><td class="n">{frames.kept_by_scale.get(scale, 0)}</td>'
        f"<td>{_meter(frames.kept_by_scale.get(scale, 0), frames.kept)}</td>"
        f'<td class="n">{frames.dropped_by_scale.get(scale, 0)}</td></tr>'
        for scale in scales
    )
    return (
        f"<section><h2>Data slimming: what became of {frames.sent} frames</h2>"
        '<p class="note">Each frame was scored by how much detail it would lose when downsampled; the score decides '
        "whether it is kept, and at which scale it is stored, trained on and predicted.</p>"
        '<div class="wide"><table><tr><th>outcome</th><th class="n">frames</th><th>share of all</th><th></th></tr>'
        f'{rows}</table><br><table><tr><th>scale</th><th class="n">kept</th><th>share of kept</th>'
        f'<th class="n">dropped, predicted at it</th></tr>{by_scale}</table></div></section>\n'
    )


def _versions(report: DemoReport) -> str:
    largest = max((v.macs for v in report.versions), default=0)
    rows = "".join(_version_row(v, largest) for v in report.versions)
    return (
        "<section><h2>Network slimming: model versions</h2>"
        '<p class="note">MACs per image at the reference size. Slimming removes whole channels, so parameters and '
        "MACs leave the tensors.</p>"
        '<div class="wide"><table><tr><th>version</th><th>from</th><th>status</th><th class="n">MACs</th><th></th>'
        f'<th class="n">parameters</th><th class="n">mIoU at the gate</th></tr>{rows}</table></div></section>\n'
    )


def _version_row(version: Version, largest: int) -> str:
    return (
        f"<tr><td>{escape(version.version)}</td><td>{escape(version.parent or 'pretraining')}</td>"
        f'<td>{escape(version.status)}</td><td class="n">{version.macs / 1e6:.1f} M</td>'
        f"<td>{_meter(version.macs, largest, frozen=version.status != 'live')}</td>"
        f'<td class="n">{version.parameters / 1e3:.0f} k</td><td class="n">{_score(version.miou_gate)}</td></tr>'
    )


def _joules(report: DemoReport) -> str:
    joules = report.joules
    parts = {
        "training": joules.training,
        "inference": joules.inference,
        "ingest": joules.ingest,
        "labelling": joules.labelling,
    }
    total = sum(parts.values())
    rows = "".join(
        f'<tr><td>{name}</td><td class="n">{_joules_text(value)}</td><td>{_meter(value, total)}</td>'
        f"<td>{escape(joules.method)}</td></tr>"
        for name, value in parts.items()
    )
    how = _METHODS.get(joules.method, joules.method)
    return (
        "<section><h2>Joules by workload</h2>"
        f'<p class="note">Above idle. Method: {escape(how)} (source: {escape(joules.source)}).</p>'
        '<div class="wide"><table><tr><th>workload</th><th class="n">energy</th><th>share</th><th>method</th></tr>'
        f"{rows}</table></div></section>\n"
    )


def _rounds(report: DemoReport) -> str:
    rows = "".join(_round_row(r) for r in report.rounds)
    return (
        "<section><h2>Rounds</h2>"
        '<p class="note">Each round trains a copy of the live model on new and rehearsed samples and slims it a step '
        "further. The gate compares the candidate with the live model on held-out blocks of time.</p>"
        '<div class="wide"><table><tr><th>round</th><th>phase</th><th>outcome</th>'
        '<th class="n">mIoU live &rarr; candidate</th><th class="n">MACs</th><th class="n">steps</th>'
        f'<th class="n">time</th><th class="n">energy</th><th>why</th></tr>{rows}</table></div></section>\n'
    )


def _round_row(round_: Round) -> str:
    tone = {"promoted": "good", "failed": "bad"}.get(round_.outcome, "")
    macs = (
        f"{round_.macs_before / 1e6:.1f} &rarr; {round_.macs_after / 1e6:.1f} M"
        if round_.macs_before and round_.macs_after
        else "&ndash;"
    )
    energy = "&ndash;"
    if round_.joules is not None:
        energy = f"{_joules_text(round_.joules)}<br><span class='note'>{escape(round_.method or '')}</span>"
    why = "".join(f"<li>{escape(reason)}</li>" for reason in round_.reasons)
    return (
        f"<tr><td>{escape(round_.id)}</td><td>{escape(round_.phase)}</td>"
        f'<td class="{tone}">{escape(round_.outcome)}</td>'
        f'<td class="n">{_score(round_.miou_before)} &rarr; {_score(round_.miou_after)}<br>'
        f"<span class='note'>frozen {_score(round_.miou_frozen)}</span></td>"
        f'<td class="n">{macs}</td><td class="n">{round_.steps if round_.steps is not None else "&ndash;"}</td>'
        f'<td class="n">{f"{round_.seconds:.0f} s" if round_.seconds is not None else "&ndash;"}</td>'
        f'<td class="n">{energy}</td><td><ul>{why}</ul></td></tr>'
    )


def _meter(value: float, whole: float, *, frozen: bool = False) -> str:
    share = 100 * value / whole if whole else 0.0
    kind = ' class="frozen"' if frozen else ""
    return (
        f'<div class="meter" title="{share:.0f} %"><i{kind} style="width:{min(share, 100):.1f}%"></i></div>'
    )


def _score(value: float | None) -> str:
    return "&ndash;" if value is None else f"{value:.3f}"


def _joules_text(value: float) -> str:
    return f"{value / 1000:.2f} kJ" if value >= 1000 else f"{value:.0f} J"
