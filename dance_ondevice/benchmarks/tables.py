"""The page that shows the benchmark results lying beside it.

``python -m dance_ondevice.benchmarks.tables docs/benchmarks`` writes ``README.md`` there from every
``*.json``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dance_ondevice.benchmarks import overview
from dance_ondevice.benchmarks.base import page as base_page
from dance_ondevice.benchmarks.base.report import BaseReport
from dance_ondevice.benchmarks.blend import report as blend_report
from dance_ondevice.benchmarks.console import page as console_page
from dance_ondevice.benchmarks.console.report import ConsoleReport
from dance_ondevice.benchmarks.demo_runs import page as demo_page
from dance_ondevice.benchmarks.demo_runs.report import DemoRuns
from dance_ondevice.benchmarks.first_round_report import FirstRoundReport
from dance_ondevice.benchmarks.fleet import page as fleet_page
from dance_ondevice.benchmarks.fleet.report import FleetReport
from dance_ondevice.benchmarks.fleet.server import MANY, ServerReport
from dance_ondevice.benchmarks.fleet.server import lines as fleet_server_lines
from dance_ondevice.benchmarks.fleet.ways import USUAL
from dance_ondevice.benchmarks.indicators_report import (
    TARGET_OF_DECODE,
    TARGET_RHO,
    TARGET_SCALE,
    IndicatorsReport,
)
from dance_ondevice.benchmarks.ingest import page as ingest_page
from dance_ondevice.benchmarks.ingest.report import IngestReport
from dance_ondevice.benchmarks.labelling import page as labelling_page
from dance_ondevice.benchmarks.labelling.report import LabellingReport
from dance_ondevice.benchmarks.markdown import number, table
from dance_ondevice.benchmarks.predict import page as predict_page
from dance_ondevice.benchmarks.predict.report import PredictReport
from dance_ondevice.benchmarks.result import Result, ResultError, as_body, command_line, read_result
from dance_ondevice.benchmarks.robustness import page as robustness_page
from dance_ondevice.benchmarks.robustness.report import FaultsReport, SoakReport
from dance_ondevice.benchmarks.score import report as score_report
from dance_ondevice.benchmarks.service import page as service_page
from dance_ondevice.benchmarks.service.report import ServiceReport
from dance_ondevice.benchmarks.slimming import page as slimming_page
from dance_ondevice.benchmarks.slimming.report import SlimmingReport
from dance_ondevice.benchmarks.step.report import StepReport
from dance_ondevice.benchmarks.stream.results import page as stream_page
from dance_ondevice.benchmarks.stream.results.report import StreamReport

PAGE = "README.md"

_HEAD = """# Benchmark results

Made from the JSON files in this folder by `python -m dance_ondevice.benchmarks.tables docs/benchmarks`: a
result is added by writing it here with `--out` and making the page again. Times depend on the machine; mIoU
is a fraction of 1.
"""
_NO_RESULTS = "There are no results yet."


def render(folder: Path) -> str:
    """The page for the results in a folder, in the order of their names.

    Raises:
        ResultError: a file is no result, or of a benchmark that has no table; names the file.
        OSError: a file cannot be read.
    """
    results = {path: read_result(path) for path in sorted(folder.glob("*.json"))}
    sections = [_section(path, result) for path, result in results.items()]
    slimmed = {
        path.name: as_body(result, SlimmingReport)
        for path, result in results.items()
        if result.about.benchmark == "slimming"
    }
    first = overview.lines({path.name: result for path, result in results.items()})
    return "\n".join([_HEAD, *first, *slimming_page.targets(slimmed), *(sections or [_NO_RESULTS + "\n"])])


def main(arguments: Sequence[str]) -> int:
    """Write the page; returns the exit status."""
    if len(arguments) != 1:
        print("usage: python -m dance_ondevice.benchmarks.tables FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    try:
        (folder / PAGE).write_text(render(folder), encoding="utf-8")
    except (OSError, ResultError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _section(path: Path, result: Result) -> str:
    about = result.about
    if about.benchmark not in _RENDERERS:
        raise ResultError(f"{path}: there is no table for bench {about.benchmark}")
    try:
        title, lines = _RENDERERS[about.benchmark](result)
    except ResultError as error:
        raise ResultError(f"{path}: {error}") from error
    facts = [
        f"- command: `{about.command}`",
        f"- data: {about.data}",
        f"- seed: {'none, nothing is random' if about.seed is None else about.seed}",
        f"- machine: {about.machine}",
        f"- date: {about.date}, version {about.version}",
        f"- file: [{path.name}]({path.name})",
        *([f"- note: {about.note}"] if about.note else []),
    ]
    return "\n".join([f"## {title}", "", *facts, "", *lines, ""])


def _served(report: IndicatorsReport) -> list[str]:
    """The lines about what a choice of scales is worth."""
    if not report.served:
        return []
    told = ", ".join(f"{name} {value:.4f}" for name, value in sorted(report.served.items(), key=_by_value))
    return [
        "mIoU of the set with an equal share of the images at full size and at each scale, by what chooses",
        f"them: {told}.",
        "",
    ]


def _by_value(named: tuple[str, float]) -> float:
    return -named[1]


def _indicators(result: Result) -> tuple[str, list[str]]:
    report = as_body(result, IndicatorsReport)
    scales = [scale for scale in report.miou if scale != "1"]
    rows = [
        (
            name if not found.needs else f"{name} (needs {found.needs})",
            *(number(found.rho[scale], "+.3f") for scale in scales),
            number(found.microseconds, ".0f"),
            number(found.of_grey_decode, ".1%"),
            "yes" if found.on_target else "no",
        )
        for name, found in report.indicators.items()
    ]
    columns = ("indicator", *(f"rho at {s}" for s in scales), "us a frame", "of a grey decode", "on target")
    model = ", ".join(f"{key} {value}" for key, value in report.model.items() if value is not None)
    return f"Complexity indicators, {report.dataset} {report.split}", [
        f"Model: {model}. mIoU of the set: "
        + ", ".join(f"{value:.4f} at {scale}" for scale, value in report.miou.items())
        + "."
        + (f" The learnt indicator has learnt from {report.learnt_from}." if report.learnt_from else ""),
        "",
        "rho is Spearman's rank correlation of the indicator with each image's loss of mIoU when inferred at",
        "that scale. Times are for a 640x480 frame, of which a grey JPEG decode takes "
        f"{report.grey_decode_microseconds:.0f} us. On target is rho",
        f"of {TARGET_RHO} or more at {TARGET_SCALE} for at most {TARGET_OF_DECODE:.0%} of that decode.",
        "",
        *_served(report),
        "The loss of the mirrored frame is the same measurement of the same scene a second time. Where it",
        "agrees with itself to r only, an indicator that knew the scene's mean loss would be expected to",
        "reach about the square root of r (Spearman's attenuation), and no more.",
        "",
        *table(columns, rows),
    ]


def _first_round(result: Result) -> tuple[str, list[str]]:
    report = as_body(result, FirstRoundReport)
    base, ran = report.base, report.round
    rows = [
        (
            f"{name} ({score.version})",
            number(score.miou, ".4f"),
            f"{score.macs / 1e6:.0f} M",
            f"{score.parameters / 1e3:.0f} k",
        )
        for name, score in (("before", report.before), ("after", report.after))
    ]
    classes = [
        (name, number(before, ".3f"), number(report.after.iou_per_class.get(name), ".3f"))
        for name, before in report.before.iou_per_class.items()
    ]
    return f"One round on a new scene, {report.dataset}", [
        f"Base model: `{_pretrain_command(base)}`, in {base.get('precision')}, "
        f"{number(base.get('cpu_seconds'), '.0f')} CPU seconds. Then "
        f"{report.streamed}: {report.frames['kept']} kept, {report.frames['dropped']} dropped. One round: "
        f"{report.outcome}, {ran['steps']} steps in {report.round_precision or 'an unknown precision'}, "
        f"{report.round_cpu_seconds:.0f} CPU seconds, "
        f"{ran['joules']:.0f} J above idle ({ran['method']}); at the gate mIoU {ran['miou_before']:.3f} -> "
        f"{ran['miou_after']:.3f}.",
        "",
        *table(("model", "mIoU", "MACs at 480x360", "parameters"), rows),
        "",
        *table(("IoU of class", "before", "after"), classes),
    ]


def _pretrain_command(made: Mapping[str, Any]) -> str:
    """The command line that made a base model, from its card; what is not in the card is left out."""
    data = made.get("dataset") or {}
    options = {
        "--dataset": data.get("name"),
        "--root": "DIR",
        "--sequences": ",".join(data.get("sequences") or ()),
        "--size": "x".join(str(side) for side in reversed(made.get("size") or ())),
        "--epochs": made.get("epochs"),
        "--batch-size": made.get("batch_size"),
        "--learning-rate": made.get("learning_rate"),
        "--seed": made.get("seed"),
    }
    return command_line("pretrain", options)


def _slimming(result: Result) -> tuple[str, list[str]]:
    return slimming_page.section(as_body(result, SlimmingReport))


def _score(result: Result) -> tuple[str, list[str]]:
    return score_report.section(as_body(result, score_report.ScoreReport))


def _blend(result: Result) -> tuple[str, list[str]]:
    return blend_report.section(as_body(result, blend_report.BlendReport))


def _stream(result: Result) -> tuple[str, list[str]]:
    report = as_body(result, StreamReport)
    return f"Learning on a stream, {report.stream}", stream_page.lines(report)


def _ingest(result: Result) -> tuple[str, list[str]]:
    report = as_body(result, IngestReport)
    stored = ", frames stored as they come" if tuple(report.scales) == (1.0,) else ""
    return f"Ingest{stored}{' with a round' if report.with_round else ''}", ingest_page.lines(report)


def _predict(result: Result) -> tuple[str, list[str]]:
    report = as_body(result, PredictReport)
    return f"Inference, {report.architecture}", predict_page.lines(report)


def _service(result: Result) -> tuple[str, list[str]]:
    report = as_body(result, ServiceReport)
    against = f" against {report.against}" if report.against else ""
    return f"The whole service{against}", service_page.lines(report)


def _step(result: Result) -> tuple[str, list[str]]:
    report = as_body(result, StepReport)
    columns = ("step", "ms an image", "ms there", "of there", "seconds a MAC, of dense here")
    rows = [
        (
            name,
            f"{cost.ms_an_image:.1f}",
            f"{report.there[name].ms_an_image:.1f}" if name in report.there else "-",
            f"{report.ratios[name]:.2f}",
            f"{report.macs_ratio[name]:.2f}",
        )
        for name, cost in report.here.items()
    ]
    return f"A training step, {report.architecture}", [
        f"CPU milliseconds an image on one thread, {report.precision}, decoding and augmentation included, "
        f"against {report.against}, in turns; the median of {report.epochs} epochs over "
        f"{report.images} images.",
        "Larger batches are set against batches of 4 there.",
        "",
        *table(columns, rows),
    ]


def _fleet(result: Result) -> tuple[str, list[str]]:
    report = as_body(result, FleetReport)
    names = tuple(report.variants)
    compared = "" if names == USUAL else f": {'; '.join(names)}"
    title = f"A fleet of {report.boards} boards, {report.fleet}{compared}"
    return title, fleet_page.lines(report)


def _labelling(result: Result) -> tuple[str, list[str]]:
    report = as_body(result, LabellingReport)
    return f"Labels by taps, {report.stream}, {report.base.split()[0]}", labelling_page.lines(report)


def _console(result: Result) -> tuple[str, list[str]]:
    return "The console", console_page.lines(as_body(result, ConsoleReport))


def _fleet_server(result: Result) -> tuple[str, list[str]]:
    report = as_body(result, ServerReport)
    many = f", {report.offers:,} offers" if report.offers >= MANY else ""
    return f"A fleet's server alone{many}", fleet_server_lines(report)


def _base(result: Result) -> tuple[str, list[str]]:
    report = as_body(result, BaseReport)
    return f"The base model that comes along, {report.architecture}", base_page.lines(report)


def _soak(result: Result) -> tuple[str, list[str]]:
    return "A daemon in a world that changes fast", robustness_page.soak_lines(as_body(result, SoakReport))


def _faults(result: Result) -> tuple[str, list[str]]:
    report = as_body(result, FaultsReport)
    alone = ", of a fleet" if report.fleet and not report.kills else ""
    return f"What was broken on purpose{alone}", robustness_page.faults_lines(report)


def _demo(result: Result) -> tuple[str, list[str]]:
    report = as_body(result, DemoRuns)
    return f"The demonstration beside {report.busy} busy processes", demo_page.lines(report)


#: How each benchmark's result is shown: title and lines.
_RENDERERS: Mapping[str, Callable[[Result], tuple[str, list[str]]]] = {
    "indicators": _indicators,
    "first-round": _first_round,
    "slimming": _slimming,
    "stream": _stream,
    "ingest": _ingest,
    "predict": _predict,
    "service": _service,
    "step": _step,
    "score": _score,
    "base": _base,
    "blend": _blend,
    "demo": _demo,
    "console": _console,
    "fleet": _fleet,
    "labelling": _labelling,
    "fleet-server": _fleet_server,
    "soak": _soak,
    "faults": _faults,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
