"""``dance-ondevice bench demo``: the demonstration again and again, beside other work."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from dance_ondevice.benchmarks.demo_runs.page import lines
from dance_ondevice.benchmarks.demo_runs.report import DemoRun, DemoRuns, read_run
from dance_ondevice.benchmarks.options import hand_over, made_here, note_option, out_option, say
from dance_ondevice.benchmarks.result import command_line
from dance_ondevice.daemon.cli import FiniteRange, json_option
from dance_ondevice.demo.reporting.report_file import REPORT_FILE


@click.command()
@click.option("--runs", type=click.IntRange(1), default=20, show_default=True, help="Each with another seed.")
@click.option("--busy", type=click.IntRange(0), default=4, show_default=True, help="Processes beside them.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the first run.")
@click.option("--max-seconds", type=FiniteRange(60, 3600), default=480.0, show_default=True, help="A run.")
@out_option()
@note_option
@json_option
def demo(
    *, runs: int, busy: int, seed: int, max_seconds: float, out: Path | None, note: str, as_json: bool
) -> None:
    """Run the demonstration many times beside processes that compute all the time.

    Each must end with status 0, whatever it had time to show, and say what it saw.
    """
    found = []
    with _busy(busy):
        for number in range(runs):
            found.append(_run(seed + number, max_seconds))
            say(f"seed {found[-1].seed}: status {found[-1].status} after {found[-1].seconds:.0f} s")
    options = {
        "--runs": runs,
        "--busy": busy,
        "--seed": seed,
        "--max-seconds": max_seconds,
        "--out": "FILE.json",
    }
    about = made_here(
        "demo", command_line("bench demo", options), "the synthetic street of each seed", seed=seed, note=note
    )
    hand_over(about, DemoRuns(busy=busy, runs=tuple(found)), _show, out=out, as_json=as_json)


def _run(seed: int, max_seconds: float) -> DemoRun:
    with tempfile.TemporaryDirectory() as folder:
        before, started = os.getloadavg()[0], time.monotonic()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "dance_ondevice", "demo", "--out", folder),
                *("--seed", str(seed), "--max-seconds", str(max_seconds)),
            ],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds, load = time.monotonic() - started, (before, os.getloadavg()[0])
        try:
            report: dict[str, Any] = json.loads((Path(folder) / REPORT_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            report = {"seed": seed}
    return read_run(report, status=done.returncode, seconds=seconds, load=load)


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """So many processes that compute until the end of the block."""
    beside = [
        multiprocessing.get_context("spawn").Process(target=_compute, daemon=True) for _ in range(count)
    ]
    for process in beside:
        process.start()
    try:
        yield
    finally:
        for process in beside:
            process.terminate()
            process.join()


def _compute() -> None:
    while True:
        pass


def _show(report: DemoRuns) -> None:
    click.echo("\n".join(lines(report)))
