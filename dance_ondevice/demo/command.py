"""``dance-ondevice demo``: pretrain, run the daemon, stream a drifting street, evaluate, report."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console

from dance_ondevice.daemon.cli import WorkFailed, json_option
from dance_ondevice.daemon.system.signals import sigterm_as_interrupt
from dance_ondevice.demo.display import Display
from dance_ondevice.demo.report_file import as_json as as_data
from dance_ondevice.demo.run import DemoOptions, run_demo
from dance_ondevice.demo.summary import print_summary
from dance_ondevice.demo.verdict import judge


@click.command(short_help="Show the whole service at work on a synthetic camera.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-report"),
    show_default=True,
    help="Folder for report.json, report.html and the daemon's log.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of everything."
)
@json_option
@click.option(
    "--max-seconds",
    type=click.FloatRange(60, 3600),
    default=480.0,
    show_default=True,
    help="Longest that it may take in all, if the machine is not too busy to show anything in it; it ends "
    "when its rounds are done.",
)
@click.option("--strict", is_flag=True, help="End with status 1 also where learning fell short.")
@click.option("--keep", is_flag=True, help="Keep the daemon's state and configuration; says where.")
def demo(*, out: Path, seed: int, as_json: bool, max_seconds: float, strict: bool, keep: bool) -> None:
    """Watch the real daemon learn a street whose light and weather change, in about three minutes.

    Trains a first model by day, starts the daemon as a process of its own, streams day, dusk, rain and day
    again, and compares the live model with the first one on frames that were never streamed.

    It ends when each light has had its rounds. A light in which learning gained nothing is a finding, and is
    said with what to do; exit status 1 means that something broke: no frame was kept, no mask came back,
    every round failed, or the daemon did. With --strict it also means that fewer than two rounds ran, none
    was promoted, no frame was dropped, or the live model did not beat the first one at dusk or in rain.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    # Read once, when torch is loaded, here and in the processes below. By default OpenMP's threads spin while
    # they wait for each other, and three programs that spin on two cores take five times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    progress = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(sigterm_as_interrupt())
        workspace = stack.enter_context(_workspace(keep, progress))
        display = stack.enter_context(Display(progress, max_seconds))
        options = DemoOptions(seed=seed, max_seconds=max_seconds, out=out)
        try:
            report = run_demo(options, workspace, display)
        except (OSError, RuntimeError, ValueError) as error:
            raise WorkFailed(str(error)) from error
    found = judge(report)
    bad = [*found.failures, *(found.shortfalls if strict else ())]
    if not as_json:
        print_summary(Console(), report, out)
        raise SystemExit(1 if bad else 0)
    click.echo(json.dumps(as_data(report), indent=2))
    if bad:
        raise WorkFailed("; ".join(bad))


@contextlib.contextmanager
def _workspace(keep: bool, console: Console) -> Iterator[Path]:
    """Yield a folder for temporary files, which is removed afterwards unless ``keep`` is set."""
    if keep:
        folder = Path(tempfile.mkdtemp(prefix="dance-demo-"))
        console.print(f"state and configuration stay in {folder}", soft_wrap=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="dance-demo-") as name:
        yield Path(name)
