"""``dance-ondevice demo``: pretrain, run the daemon, stream a drifting street, evaluate, report."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import shutil
import sys
from pathlib import Path

import click
from rich.console import Console

from dance_ondevice.daemon.cli import FiniteRange, WorkFailed, json_option
from dance_ondevice.daemon.system.signals import sigterm_as_interrupt
from dance_ondevice.demo.display import Display
from dance_ondevice.demo.reporting.report_file import REPORT_FILE, seed_of
from dance_ondevice.demo.reporting.report_file import as_json as as_data
from dance_ondevice.demo.reporting.summary import print_summary
from dance_ondevice.demo.reporting.verdict import judge
from dance_ondevice.demo.run import DemoOptions, run_demo
from dance_ondevice.demo.workspace import Workspace, apart, last, replaced

_OUT = Path("demo-report")


@click.command(short_help="Show the whole service at work on a synthetic camera.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=_OUT,
    show_default=True,
    help="Folder for report.json, report.html, the daemon's log and what it learnt.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of everything."
)
@json_option
@click.option(
    "--max-seconds",
    type=FiniteRange(60, 3600),
    default=480.0,
    show_default=True,
    help="Longest that it may take in all, if the machine is not too busy to show anything in it; it ends "
    "when its rounds are done.",
)
@click.option("--strict", is_flag=True, help="End with status 1 also where learning fell short.")
@click.option(
    "--keep",
    is_flag=True,
    help="Keep the daemon's state where no later demonstration replaces it; says where.",
)
@click.option(
    "--console",
    "visit",
    is_flag=True,
    help="Run no new one: open the console on what the last one left in --out, with its daemon and its "
    "camera, until Ctrl-C.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:9748",
    show_default=True,
    help="Where that console is served.",
)
def demo(
    *,
    out: Path,
    seed: int,
    as_json: bool,
    max_seconds: float,
    strict: bool,
    keep: bool,
    visit: bool,
    listen: str,
) -> None:
    """Watch the real daemon learn a street whose light and weather change, in about four minutes.

    Trains a first model by day, starts the daemon as a process of its own, streams day, dusk, rain and day
    again, and compares the live model with the first one on frames that were never streamed.

    What it learnt stays in --out until the next one; --console opens it in the browser.

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
    if visit:
        _visit(out, listen, progress)
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(sigterm_as_interrupt())
        try:
            workspace = stack.enter_context(apart() if keep else replaced(out))
        except OSError as error:
            raise WorkFailed(str(error)) from error
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
        _offer(Console(), out, workspace, keep=keep)
        raise SystemExit(1 if bad else 0)
    click.echo(json.dumps(as_data(report), indent=2))
    if bad:
        raise WorkFailed("; ".join(bad))


def _offer(console: Console, out: Path, workspace: Workspace, *, keep: bool) -> None:
    if keep:
        line = f"state and configuration stay in {workspace.root}"
    else:
        where = "" if out == _OUT else f" --out {shlex.quote(str(out))}"
        line = f"look at it in the browser: {_program()} demo --console{where}"
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def _program() -> str:
    """How this program was called, so that the line works where it is not on the PATH."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m dance_ondevice"
    return shlex.quote(called.name if shutil.which(called.name) else str(called))


def _visit(out: Path, listen: str, progress: Console) -> None:
    from dance_ondevice.demo.visit import look

    workspace = last(out)
    if workspace is None:
        raise WorkFailed(f"{out} has no demonstration to look at: run `dance-ondevice demo` first")

    def say(line: str) -> None:
        progress.print(line, soft_wrap=True, markup=False, highlight=False)

    with contextlib.suppress(KeyboardInterrupt), sigterm_as_interrupt():
        try:
            seed = seed_of(out / REPORT_FILE)
            look(workspace, out / "daemon-console.log", seed=seed, listen=listen, say=say)
        except (OSError, RuntimeError, ValueError) as error:
            raise WorkFailed(str(error)) from error
