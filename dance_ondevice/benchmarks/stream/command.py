"""``dance-ondevice bench stream``: what learning on a changing stream brings and costs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.benchmarks.options import (
    folder_option,
    hand_over,
    made_here,
    model_option,
    note_option,
    out_option,
    say,
    work_option,
)
from dance_ondevice.benchmarks.result import command_line
from dance_ondevice.daemon.cli import WorkFailed, json_option
from dance_ondevice.daemon.terminal import comma_names, print_table
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.models.card import CheckpointError

if TYPE_CHECKING:
    from dance_ondevice.benchmarks.stream.results.report import StreamReport
    from dance_ondevice.benchmarks.stream.streams import Stream

_STREAMS = ("street", "camvid-day-dusk", "camvid-day-dusk-day")


@click.command(name="stream")
@click.option("--stream", "stream_name", type=click.Choice(_STREAMS), default="street", show_default=True)
@folder_option("--root", help="Folder of CamVid; the street needs none.")
@model_option("--base", help="Folder of the base model, as pretrain writes it; the street trains its own.")
@model_option(
    "--pretrained",
    metavar="MODEL",
    help="Folder of a model from elsewhere: pretrained_frozen lives the stream with it, untouched.",
)
@model_option(
    "--teacher",
    metavar="MODEL",
    help="Folder of the model that labels for dance_teacher and _judges; else the first seed's joint model.",
)
@click.option("--seeds", default="0,1,2", show_default=True, metavar="A,B", help="Of training and choices.")
@click.option(
    "--dense-seeds",
    default="",
    metavar="A,B",
    help="Seeds of naive, periodic and joint, which take long.",
)
@click.option(
    "--joint-seeds",
    default="",
    metavar="A,B",
    help="Seeds of joint training, which takes longest.",
)
@click.option("--variants", default="", metavar="A,B", callback=comma_names, help="Only these; else all.")
@click.option("--watts", type=click.FloatRange(min=0, min_open=True), default=2.0, show_default=True,
              help="Of a busy core above idle: joules are modelled as CPU seconds times this.")  # fmt: skip
@work_option("Keeps every round and score: a killed measurement goes on from there. Else a temporary folder.")
@out_option("Write the result here as well, as JSON, and its plot beside it.")
@note_option
@json_option
def stream(
    *,
    stream_name: str,
    root: Path | None,
    base: Path | None,
    pretrained: Path | None,
    teacher: Path | None,
    seeds: str,
    dense_seeds: str,
    joint_seeds: str,
    variants: tuple[str, ...],
    watts: float,
    work: Path | None,
    out: Path | None,
    note: str,
    as_json: bool,
) -> None:
    """Compare ways to learn on a stream whose light changes: each frame is a test before it is learnt from.

    The stream does not wait for training. Reported are mIoU as the stream went, at its end and on what was
    known before, forgetting, recovery after each drift, modelled joules, and what the gates let through.
    """
    numbers = _numbers(seeds, "--seeds")
    dense_numbers = _numbers(dense_seeds, "--dense-seeds") if dense_seeds else numbers
    joint_numbers = _numbers(joint_seeds, "--joint-seeds") if joint_seeds else dense_numbers
    if stream_name != "street":
        if root is None:
            raise click.BadParameter(f"{stream_name} needs CamVid's folder", param_hint="--root")
        if base is None:
            raise click.BadParameter(f"{stream_name} needs a base model", param_hint="--base")
    # torch is imported only now, so that wrong usage is reported at once.
    from dance_ondevice.benchmarks.stream.results.summary import make_report
    from dance_ondevice.benchmarks.stream.run import Bench, StreamBenchError, base_of_street, only
    from dance_ondevice.benchmarks.stream.settings import Settings
    from dance_ondevice.benchmarks.stream.variants import VARIANTS
    from dance_ondevice.models.card import read_card
    from dance_ondevice.training.batches import SampleError

    try:
        chosen = only(VARIANTS, variants)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--variants") from error
    if pretrained is None and any(variant.pretrained for variant in chosen) and variants:
        raise click.BadParameter("pretrained_frozen needs a model", param_hint="--pretrained")
    settings = Settings(watts=watts)
    with _folder(work) as folder:
        lived = _open(stream_name, root, folder)
        try:
            model = base or base_of_street(lived, folder / "base")
            card = read_card(model)
            bench = Bench(
                stream=lived,
                base=model,
                work=folder,
                pretrained=pretrained,
                teacher=teacher,
                settings=settings,
                dense_seeds=dense_numbers,
                joint_seeds=joint_numbers,
                say=say,
            )
            runs = bench.run(chosen, numbers)
        except (StreamBenchError, CheckpointError, SampleError, OSError) as error:
            raise WorkFailed(str(error)) from error
    report = make_report(
        lived,
        chosen,
        runs,
        seeds=numbers,
        base=f"{card.architecture} {card.version}".strip(),
        settings=settings,
    )
    if out is not None:
        report = replace(report, plot=out.with_suffix(".svg").name)
    options = {
        "--stream": stream_name,
        "--root": "DIR" if root else "",
        "--base": "BASE" if base else "",
        "--pretrained": "MODEL" if pretrained else "",
        "--teacher": "MODEL" if teacher else "",
        "--seeds": seeds,
        "--dense-seeds": dense_seeds,
        "--joint-seeds": joint_seeds,
        "--variants": ",".join(variants),
        "--watts": f"{watts:g}",
    }
    about = made_here(
        "stream", command_line("bench stream", options), lived.about, seed=numbers[0], note=note
    )
    hand_over(about, report, _show, out=out, as_json=as_json, draw=_draw)


def _draw(report: StreamReport, out: Path) -> list[str]:
    from dance_ondevice.benchmarks.stream.results.page import svg

    picture = out.with_name(report.plot)
    picture.write_text(svg(report), encoding="utf-8")
    return [f"wrote {picture}"]


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        found = tuple(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is no list of numbers such as 0,1,2", param_hint=option
        ) from error
    if min(found) < 0:
        raise click.BadParameter("a seed is 0 or more", param_hint=option)
    return found


@contextlib.contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    with tempfile.TemporaryDirectory(prefix="dance-stream-") as made:
        yield Path(made)


def _open(name: str, root: Path | None, folder: Path) -> Stream:
    from dance_ondevice.benchmarks.stream.streams import camvid_stream, street_stream

    if root is None or name == "street":
        return street_stream(folder / "street")
    try:
        return camvid_stream(root, day_again=name == "camvid-day-dusk-day")
    except DatasetError as error:
        raise click.BadParameter(str(error), param_hint="--root") from error


def _show(report: StreamReport) -> None:
    from dance_ondevice.benchmarks.stream.results.targets import PEAK_TARGET, peak_of_dance

    tasks = list(next(iter(report.variants.values())).final_miou)
    print_table(
        f"{report.stream}, seeds {', '.join(map(str, report.seeds))}",
        ("variant", *tasks, "prequential", "forgetting", "J", "promoted", "bad"),
        [
            (
                name,
                *(round(v.final_miou[task], 4) for task in tasks),
                None if v.prequential_miou is None else round(v.prequential_miou, 4),
                None if v.forgetting is None else round(v.forgetting, 4),
                round(v.joules),
                v.promotions,
                v.bad_promotions,
            )
            for name, v in report.variants.items()
        ],
    )
    click.echo(f"peak memory of all variants: {report.peak_bytes / 2**20:.0f} MiB")
    if peak := peak_of_dance(report):
        verdict = "within" if peak <= PEAK_TARGET else "above"
        limit = f"{verdict} {PEAK_TARGET / 2**20:.0f} MiB"
        click.echo(f"peak memory of the DANCE variants: {peak / 2**20:.0f} MiB, {limit}")
