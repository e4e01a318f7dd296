"""``dance-ondevice bench stream``: what learning on a changing stream brings and costs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice import __version__
from dance_ondevice.benchmarks.result import About, encode_result, machine_class, write_result
from dance_ondevice.daemon.cli import WorkFailed, json_option
from dance_ondevice.daemon.output import print_table
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.models.card import CheckpointError

if TYPE_CHECKING:
    from dance_ondevice.benchmarks.stream.report import StreamReport
    from dance_ondevice.benchmarks.stream.streams import Stream

_STREAMS = ("street", "camvid-day-dusk", "camvid-day-dusk-day")
#: What a model at 480x360 may take at most, bytes.
_PEAK_TARGET = 1 << 30


@click.command(name="stream")
@click.option("--stream", "stream_name", type=click.Choice(_STREAMS), default="street", show_default=True)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Folder of CamVid; the street needs none.",
)
@click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True),
    metavar="BASE",
    help="Folder of the base model, as pretrain writes it; the street trains its own.",
)
@click.option(
    "--teacher",
    type=click.Path(path_type=Path, exists=True),
    metavar="MODEL",
    help="Folder of the model that labels for dance_teacher; else the joint model of the first seed.",
)
@click.option("--seeds", default="0,1,2", show_default=True, metavar="A,B", help="Of training and choices.")
@click.option(
    "--dense-seeds",
    default="",
    metavar="A,B",
    help="Of naive, periodic and joint, which are dear.",
)
@click.option("--variants", default="", metavar="A,B", help="Only these; else all.")
@click.option("--watts", type=click.FloatRange(min=0, min_open=True), default=2.0, show_default=True,
              help="Of a busy core above idle: joules are modelled as CPU seconds times this.")  # fmt: skip
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keeps every round and score: a killed measurement goes on from there. Else a temporary folder.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the result here as well, as JSON, and its plot beside it.",
)
@click.option("--note", default="", metavar="TEXT", help="What a reader of --out must know to judge it.")
@json_option
def stream(
    *,
    stream_name: str,
    root: Path | None,
    base: Path | None,
    teacher: Path | None,
    seeds: str,
    dense_seeds: str,
    variants: str,
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
    if out is not None and not out.absolute().parent.is_dir():
        raise click.BadParameter(f"{out.parent} is no folder", param_hint="--out")
    numbers = _numbers(seeds, "--seeds")
    dense_numbers = _numbers(dense_seeds, "--dense-seeds") if dense_seeds else numbers
    if stream_name != "street":
        if root is None:
            raise click.BadParameter(f"{stream_name} needs CamVid's folder", param_hint="--root")
        if base is None:
            raise click.BadParameter(f"{stream_name} needs a base model", param_hint="--base")
    # torch comes only now, so that wrong usage is told at once.
    from dance_ondevice.batches import SampleError
    from dance_ondevice.benchmarks.stream.page import svg
    from dance_ondevice.benchmarks.stream.run import Bench, StreamBenchError, base_of_street, only
    from dance_ondevice.benchmarks.stream.settings import Settings
    from dance_ondevice.benchmarks.stream.summary import make_report
    from dance_ondevice.benchmarks.stream.variants import VARIANTS
    from dance_ondevice.models.card import read_card

    try:
        chosen = only(VARIANTS, [name for name in variants.split(",") if name])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--variants") from error
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
                teacher=teacher,
                settings=settings,
                dense_seeds=dense_numbers,
                say=lambda line: click.echo(line, err=True),
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
    about = About(
        benchmark="stream",
        command=_command(
            {
                "--stream": stream_name,
                "--root": "DIR" if root else "",
                "--base": "BASE" if base else "",
                "--teacher": "MODEL" if teacher else "",
                "--seeds": seeds,
                "--dense-seeds": dense_seeds,
                "--variants": variants,
                "--watts": f"{watts:g}",
            }
        ),
        data=lived.about,
        machine=machine_class(),
        date=datetime.now(timezone.utc).date().isoformat(),
        seed=numbers[0],
        version=__version__,
        note=note,
    )
    if out is not None:
        try:
            picture = out.with_suffix(".svg")
            picture.write_text(svg(report), encoding="utf-8")
            report = replace(report, plot=picture.name)
            write_result(out, about, report)
        except OSError as error:
            raise WorkFailed(f"cannot write {out}: {error.strerror}") from error
    if as_json:
        click.echo(encode_result(about, report), nl=False)
    else:
        _show(report)


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


def _command(options: Mapping[str, str]) -> str:
    """The command line that makes the result again; folders of the user stand as placeholders."""
    words = [f"{name} {value}" for name, value in options.items() if value]
    return " ".join(["dance-ondevice bench stream", *words])


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
    verdict = "within" if report.peak_bytes <= _PEAK_TARGET else "above"
    click.echo(f"peak memory: {report.peak_bytes / 2**20:.0f} MiB, {verdict} {_PEAK_TARGET / 2**20:.0f} MiB")
