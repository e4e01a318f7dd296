"""``report.html``: one page that needs nothing from outside itself; pictures are data, charts inline SVG."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from dance_ondevice.demo.chart import Series, grouped_bars
from dance_ondevice.demo.report import DemoReport, Round

_METHODS = {
    "counter": "read from an energy counter of the hardware",
    "integrated": "integrated from measured power",
    "modelled": "modelled: CPU seconds times the watts in the configuration, nothing was measured",
}
_NONE = "&ndash;"


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
        f'<p class="lead">The daemon received a synthetic street camera whose scene drifted ({phases}), '
        "chose what to keep, trained and slimmed its model in the background, and put a candidate live only "
        f"where it won on held-out frames. Seed {report.seed}, {report.seconds:.0f} seconds in all.</p>"
        f"{verdict}</header>\n"
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
    rows = (
        (
            escape(p.name),
            f"{p.seconds:.0f} s",
            str(p.frames),
            str(p.masks),
            escape(p.live_version or "unknown"),
            f"{p.miou_frozen:.3f}",
            f"{p.miou_live:.3f}",
            f"{p.miou_final:.3f}",
        )
        for p in report.phases
    )
    return _section(
        "mIoU by phase",
        f"On {report.eval_frames} fresh frames a phase, of a street with another seed than the streamed one: "
        "no round saw any of them. One confusion matrix a phase. The last live model is scored on every "
        "phase, so that anything it forgot shows.",
        f'<div class="key">{key}</div>',
        grouped_bars("mIoU by phase", tuple(p.name for p in report.phases), series),
        _table("phase,#streamed,#frames,#masks,live at its end,#frozen,#live,#last live", rows),
    )


def _pictures(report: DemoReport, pictures: Sequence[Pictures], legend: Sequence[Swatch]) -> str:
    versions = {p.name: p.live_version or "" for p in report.phases}
    swatches = "".join(
        f'<span><i style="background:rgb({s.rgb[0]},{s.rgb[1]},{s.rgb[2]})"></i>{escape(s.name)}</span>'
        for s in legend
    )
    shots = (
        f'<h3>{escape(p.phase)}</h3><div class="shots">'
        + _figure("jpeg", p.frame_jpeg, "frame", p.phase)
        + _figure("png", p.label_png, "label", p.phase)
        + _figure("png", p.frozen_png, "frozen first model", p.phase)
        + _figure("png", p.live_png, f"live model {versions.get(p.phase, '')}".rstrip(), p.phase)
        + "</div>"
        for p in pictures
    )
    return _section(
        "What the models see",
        "One of the fresh frames of each phase.",
        f'<div class="key">{swatches}</div>',
        *shots,
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
        (
            "dropped",
            frames.dropped,
            "scored and shown to the model, not stored: too simple to learn much from",
        ),
        ("rejected", frames.rejected, "refused as invalid"),
        ("overflow", frames.overflow, "lost because the board was too slow"),
    )
    rows = ((name, str(count), _meter(count, frames.sent), what) for name, count, what in outcomes)
    scales = sorted({*frames.kept_by_scale, *frames.dropped_by_scale}, reverse=True)
    by_scale = (
        (
            f"{scale:g}",
            str(frames.kept_by_scale.get(scale, 0)),
            _meter(frames.kept_by_scale.get(scale, 0), frames.kept),
            str(frames.dropped_by_scale.get(scale, 0)),
        )
        for scale in scales
    )
    return _section(
        f"Data slimming: what became of {frames.sent} frames",
        "Each frame was scored by how much detail it would lose when downsampled; the score decides whether "
        "it is kept, and at which scale it is stored, trained on and predicted.",
        _table("outcome,#frames,share of all,", rows),
        _table("scale,#kept,share of kept,#dropped and predicted at it", by_scale),
    )


def _versions(report: DemoReport) -> str:
    largest = max((v.macs for v in report.versions), default=0)
    rows = (
        (
            escape(v.version),
            escape(v.parent or "pretraining"),
            escape(v.status),
            f"{v.macs / 1e6:.1f} M",
            _meter(v.macs, largest, frozen=v.status != "live"),
            f"{v.parameters / 1e3:.0f} k",
            _score(v.miou_gate),
        )
        for v in report.versions
    )
    return _section(
        "Network slimming: model versions",
        "MACs per image at the reference size. Slimming removes whole channels, so parameters and MACs leave "
        "the tensors.",
        _table("version,from,status,#MACs,,#parameters,#mIoU at the gate", rows),
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
    rows = (
        (name, _joules_text(value), _meter(value, total), escape(joules.method))
        for name, value in parts.items()
    )
    how = _METHODS.get(joules.method, joules.method)
    return _section(
        "Joules by workload",
        f"Above idle. Method: {escape(how)} (source: {escape(joules.source)}).",
        _table("workload,#energy,share,method", rows),
    )


def _rounds(report: DemoReport) -> str:
    return _section(
        "Rounds",
        "Each round trains a copy of the live model on new and rehearsed samples and slims it a step "
        "further. The gate compares the candidate with the live model on held-out blocks of time.",
        _table(
            "round,phase,outcome,#mIoU live &rarr; candidate,#MACs,#steps,#time,#energy",
            map(_round_row, report.rounds),
            below=["; ".join(map(escape, one.reasons)) for one in report.rounds],
        ),
    )


def _round_row(one: Round) -> Sequence[str]:
    tone = {"promoted": "good", "failed": "bad"}.get(one.outcome, "")
    macs = _NONE
    if one.macs_before and one.macs_after:
        macs = f"{one.macs_before / 1e6:.1f} &rarr; {one.macs_after / 1e6:.1f} M"
    energy = _NONE
    if one.joules is not None:
        energy = f'{_joules_text(one.joules)}<br><span class="note">{escape(one.method or "")}</span>'
    return (
        escape(one.id),
        escape(one.phase),
        f'<span class="{tone}">{escape(one.outcome)}</span>',
        f"{_score(one.miou_before)} &rarr; {_score(one.miou_after)}"
        f'<br><span class="note">frozen {_score(one.miou_frozen)}</span>',
        macs,
        _NONE if one.steps is None else str(one.steps),
        _NONE if one.seconds is None else f"{one.seconds:.0f} s",
        energy,
    )


def _section(title: str, note: str, *parts: str) -> str:
    """A titled block; ``note`` and ``parts`` are HTML already."""
    return f'<section><h2>{escape(title)}</h2><p class="note">{note}</p>{"".join(parts)}</section>\n'


def _table(columns: str, rows: Iterable[Sequence[str]], below: Sequence[str] = ()) -> str:
    """A table whose columns are parted by commas, ``#`` before those of numbers.

    Cells, and the lines that stand ``below`` each row in its full width, are HTML already.
    """
    names = columns.split(",")
    kinds = [' class="n"' if name.startswith("#") else "" for name in names]
    head = "".join(f"<th{kind}>{name.lstrip('#')}</th>" for kind, name in zip(kinds, names, strict=True))
    body = ""
    for index, row in enumerate(rows):
        cells = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True))
        if below:
            body += f'<tr class="joined">{cells}</tr>'
            body += f'<tr><td class="note" colspan="{len(names)}">{below[index]}</td></tr>'
        else:
            body += f"<tr>{cells}</tr>"
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _meter(value: float, whole: float, *, frozen: bool = False) -> str:
    share = 100 * value / whole if whole else 0.0
    kind = ' class="frozen"' if frozen else ""
    return (
        f'<div class="meter" title="{share:.0f} %"><i{kind} style="width:{min(share, 100):.1f}%"></i></div>'
    )


def _score(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _joules_text(value: float) -> str:
    return f"{value / 1000:.2f} kJ" if value >= 1000 else f"{value:.0f} J"
