"""Runs a daemon for an hour in a world that changes a hundred times faster, and looks whether it grows.

Usage: python tests/faults/soak.py [--seconds N] [--rounds-every SECONDS]

Day, dusk and rain take turns every few seconds, rounds run all the time. After a warm-up of a third of the
time, resident memory may grow by less than 2 %, descriptors and threads must be as many as before, and no
round may have failed. Prints a line every ten looks and the verdict; exit status 1 if it is no.
"""

from __future__ import annotations

import argparse
import contextlib
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
from senders import resident_bytes  # noqa: E402

CONDITIONS = ("day", "dusk", "rain")
ALLOWED_GROWTH = 0.02
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


def soak(folder: Path, seconds: float, rounds_every: float) -> tuple[list[Look], dict[str, Any]]:
    """Returns what was seen between rounds, and the daemon's last status."""
    daemon = Daemon(folder, inference=True, engine="auto", priority="background")
    text = daemon.config.read_text()
    # A quota that is reached within the first minutes: eviction is part of the steady state.
    daemon.config.write_text(text.replace("min_free_bytes = 0", "min_free_bytes = 0\nquota_bytes = 3000000"))
    daemon.start()
    assert daemon.process is not None
    camera = Camera(daemon.facts["ingest"][0])
    looks: list[Look] = []
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
                    next_look = now + 1
                    if len(looks) % 10 == 1:
                        print(f"{looks[-1]} frames={index}", flush=True)
            status = daemon.ask("status")
            status["sent"] = index
            with contextlib.closing(sqlite3.connect(daemon.state / "dance.db")) as db:
                status["failed"] = db.execute(
                    "select id, reasons from rounds where outcome = 'failed'"
                ).fetchall()
            return looks, status
    finally:
        assert daemon.stop() == 0, daemon.log.read_text()[-2000:]


def judge(looks: list[Look]) -> tuple[float, int, int]:
    """After the warm-up, the last fifth against the first: growth of the resident memory as a share, and by
    how many descriptors and threads the most frequent number changed.
    """
    steady = looks[len(looks) // 3 :]
    fifth = max(1, len(steady) // 5)
    first, last = steady[:fifth], steady[-fifth:]
    resident = [statistics.median(each.resident for each in part) for part in (first, last)]
    return (
        resident[1] / resident[0] - 1,
        statistics.mode(each.descriptors for each in last)
        - statistics.mode(each.descriptors for each in first),
        statistics.mode(each.threads for each in last) - statistics.mode(each.threads for each in first),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--rounds-every", type=float, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        looks, status = soak(Path(folder), arguments.seconds, arguments.rounds_every)
    growth, descriptors, threads = judge(looks)
    print(f"frames {status['frames']} rounds {status['rounds']} conditions {status['conditions']}")
    print(
        f"{len(looks)} looks in {looks[-1].at:.0f} s; after a third of it: resident {growth:+.2%}, "
        f"descriptors {descriptors:+d}, threads {threads:+d}; {looks[-1]}"
    )
    for failed in status["failed"]:
        print(f"failed: {failed}")
    flat = growth < ALLOWED_GROWTH and not descriptors and not threads
    return 0 if flat and not status["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
