"""Runs a daemon for an hour in a world that changes a hundred times faster, and looks whether it grows.

Usage: python tests/faults/soak.py [--seconds N] [--rounds-every SECONDS]

Day, dusk and rain take turns every few seconds, rounds run all the time. After a warm-up of a third of the
time, resident memory may grow by less than 2 %, descriptors and threads must be as many as before, and no
round may have failed. Prints a line every ten looks and the verdict; exit status 1 if it is no. ``--out``
writes the figures as a result for docs/benchmarks.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parent.parent / "helpers")]

from daemon_process import Camera, Daemon  # noqa: E402
from figures import STREET_SEED  # noqa: E402
from senders import resident_bytes  # noqa: E402

from dance_ondevice.benchmarks.options import made_here  # noqa: E402
from dance_ondevice.benchmarks.result import write_result  # noqa: E402
from dance_ondevice.benchmarks.robustness.page import soak_lines  # noqa: E402
from dance_ondevice.benchmarks.robustness.report import SoakReport  # noqa: E402

CONDITIONS = ("day", "dusk", "rain")
ALLOWED_GROWTH = 0.02
#: Share of the time.
WARM_UP = 1 / 3
#: Frames of one condition before the next one comes.
TURN = 60


@dataclass(frozen=True)
class Look:
    """The daemon at one moment, between two rounds: a round's pipes and reader threads are no leak."""

    at: float
    resident: int
    descriptors: int
    threads: int


def look(pid: int, at: float) -> Look:
    """Count what a process holds."""
    proc = Path(f"/proc/{pid}")
    return Look(
        at, resident_bytes(pid), len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir()))
    )


def soak(
    folder: Path, seconds: float, rounds_every: float, priority: str
) -> tuple[list[Look], dict[str, Any], float]:
    """Returns what was seen between rounds, the daemon's last status, and the machine's mean load."""
    daemon = Daemon(folder, inference=True, engine="auto", priority=priority)
    text = daemon.config.read_text()
    # A quota that is reached within the first minutes: eviction is part of the steady state.
    daemon.config.write_text(text.replace("min_free_bytes = 0", "min_free_bytes = 0\nquota_bytes = 3000000"))
    daemon.start()
    assert daemon.process is not None
    camera = Camera(daemon.facts["ingest"][0])
    looks: list[Look] = []
    loads: list[float] = []
    try:
        with contextlib.closing(camera):
            started = time.monotonic()
            next_look, next_round, index = started + 1, started + 5, 0
            while (now := time.monotonic()) < started + seconds:
                camera.send(index, labelled=index % 3 == 0, condition=CONDITIONS[index // TURN % 3])
                index += 1
                if now >= next_round:
                    daemon.ask("train_now")
                    next_round = now + rounds_every
                if now >= next_look and not daemon.ask("status")["rounds"]["running"]:
                    looks.append(look(daemon.process.pid, now - started))
                    loads.append(os.getloadavg()[0])
                    next_look = now + 1
                    if len(looks) % 10 == 1:
                        print(f"{looks[-1]} frames={index}", flush=True)
            status = daemon.ask("status")
            status["sent"] = index
            with contextlib.closing(sqlite3.connect(daemon.state / "dance.db")) as db:
                status["failed"] = db.execute(
                    "select id, reasons from rounds where outcome = 'failed'"
                ).fetchall()
                status["outcomes"] = dict(
                    db.execute("select coalesce(outcome, 'open'), count(*) from rounds group by 1")
                )
            return looks, status, statistics.mean(loads)
    finally:
        assert daemon.stop() == 0, daemon.log.read_text()[-2000:]


def figures(looks: list[Look], status: dict[str, Any], load: float) -> SoakReport:
    """After the warm-up, the last fifth of the looks is set against the first: by medians, and for counts
    by what was seen most often.
    """
    steady = looks[int(len(looks) * WARM_UP) :]
    fifth = max(1, len(steady) // 5)
    first, last = steady[:fifth], steady[-fifth:]
    resident = [statistics.median(each.resident for each in part) for part in (first, last)]
    descriptors = [statistics.mode(each.descriptors for each in part) for part in (first, last)]
    threads = [statistics.mode(each.threads for each in part) for part in (first, last)]
    return SoakReport(
        seconds=looks[-1].at,
        looks=len(looks),
        warm_up=WARM_UP,
        resident_median=int(statistics.median(each.resident for each in steady)),
        resident_highest=max(each.resident for each in looks),
        growth=resident[1] / resident[0] - 1,
        descriptors=descriptors[1],
        descriptors_more=descriptors[1] - descriptors[0],
        threads=threads[1],
        threads_more=threads[1] - threads[0],
        frames=status["frames"],
        rounds=status["outcomes"],
        failures=tuple(f"{number}: {reasons}" for number, reasons in status["failed"]),
        conditions=tuple(status["conditions"]["known"]),
        load=load,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--rounds-every", type=float, default=30)
    parser.add_argument(
        "--priority",
        choices=("background", "normal"),
        default="background",
        help="of rounds; on a machine that other work keeps busy, background gets no time at all",
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--note", default="")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        looks, status, load = soak(
            Path(folder), arguments.seconds, arguments.rounds_every, arguments.priority
        )
    found = figures(looks, status, load)
    print("\n".join(soak_lines(found)))
    if arguments.out:
        about = made_here(
            "soak",
            f"make soak SOAK_SECONDS={arguments.seconds:.0f} FAULT_PRIORITY={arguments.priority}",
            f"synthetic street frames, 64x48, seed {STREET_SEED}; {', '.join(CONDITIONS)} in turn, "
            f"{TURN} frames of each, one in three labelled; a round every {arguments.rounds_every:.0f} s",
            seed=STREET_SEED,
            note=arguments.note,
        )
        write_result(arguments.out, about, found)
    flat = found.growth < ALLOWED_GROWTH and not found.descriptors_more and not found.threads_more
    return 0 if flat and not found.failures else 1


if __name__ == "__main__":
    sys.exit(main())
