"""A daemon with its console: a stream that nobody watches and that three people watch, in turns."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from dance_ondevice.benchmarks.console.report import ConsoleReport, Masks
from dance_ondevice.benchmarks.console.visitor import Visitor, Watching
from dance_ondevice.benchmarks.ingest.run import HEIGHT, WIDTH, percentiles
from dance_ondevice.benchmarks.labelling.taps import Taps
from dance_ondevice.benchmarks.service.builds import this_build
from dance_ondevice.benchmarks.service.daemons import Daemon, Viewer
from dance_ondevice.benchmarks.service.scenes import Frame, driving
from dance_ondevice.daemon.viewing.pictures import mask_size
from dance_ondevice.images.codec import decode_colour

__all__ = ["Plan", "run"]

_VIEWERS = 3
_PAGES, _TAPS = 9, 20
#: A frame of this (height, width) is corrected at the most pixels that there are.
_LARGE = (1080, 1920)
_WARM_UP = 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        turns: So often nobody watches, and then three people.
        seconds: Of each.
        fps: Frames a second.
        size: (height, width) of the frames.
    """

    turns: int = 6
    seconds: float = 20.0
    fps: float = 4.0
    size: tuple[int, int] = (HEIGHT, WIDTH)


def run(plan: Plan, folder: Path, *, say: Callable[[str], None]) -> ConsoleReport:
    """Measure everything.

    Raises:
        DaemonDied: The daemon ended.
        ClientError: It does not answer.
        VisitFailed: The console did not answer as it should.
        TapsError: The page's code cannot be run.
        OSError: The console does not start.
    """
    say("taps")
    tap_pixels, tap_ms, tap_cpu_ms = _taps()
    say("rendering frames")
    frames = driving(24, plan.fps, plan.size)
    config: dict[str, dict[str, object]] = {
        "ingest": {"bind": ["tcp://127.0.0.1:*"]},
        "data_slimming": {"enabled": False},
        "storage": {"min_free_bytes": 0},
        "inference": {"publish": "tcp://127.0.0.1:*"},
        "conditions": {"enabled": False},
        "metrics": {"enabled": False},
        "training": {"interval": "24h"},
    }
    latencies: dict[int, list[float]] = {0: [], _VIEWERS: []}
    with Daemon(this_build(), folder / "daemon", config) as daemon, Viewer(daemon) as camera:
        _send(camera, frames, _WARM_UP, plan.fps)
        with _console(folder / "daemon" / "state", folder / "console.log") as (address, pid):
            resident = {"started": _resident_mb(pid)}
            visitor = Visitor(address)
            pages = [visitor.first_page() for _ in range(_PAGES)]
            for turn in range(plan.turns):
                for viewers in latencies:
                    say(f"{viewers} people watch, {turn + 1} of {plan.turns}")
                    with Watching(address, viewers):
                        _send(camera, frames, _WARM_UP // 4, plan.fps)
                        camera.masks.clear()
                        _send(camera, frames, round(plan.fps * plan.seconds), plan.fps)
                    latencies[viewers] += [header["latency_s"] for header, _ in camera.masks]
            resident["watched"] = _resident_mb(pid)
    alone, watched = (_masks(viewers, seconds) for viewers, seconds in latencies.items())
    return ConsoleReport(
        size=plan.size,
        fps=plan.fps,
        first_page_ms={"first": 1e3 * pages[0], "50": 1e3 * median(pages)},
        tap_pixels=tap_pixels,
        tap_ms=tap_ms,
        tap_cpu_ms=tap_cpu_ms,
        resident_mb=resident,
        alone=alone,
        watched=watched,
        p99_ratio=watched.latency_ms["99"] / alone.latency_ms["99"],
    )


def _taps() -> tuple[int, dict[str, float], dict[str, float]]:
    """Pixels of a large frame, and what its taps take: at a mask of large regions, in all parts of it."""
    height, width = mask_size(*_LARGE)
    (frame,) = driving(1, 1.0, (height, width))
    dice = np.random.default_rng(0)
    seconds, cpu_seconds = [], []
    with Taps() as pieces:
        pieces.open(decode_colour(frame.jpeg))
        for _ in range(_TAPS):
            pieces.piece(frame.label, int(dice.integers(height)), int(dice.integers(width)))
            seconds.append(pieces.seconds)
            cpu_seconds.append(pieces.cpu_seconds)
    return height * width, percentiles(seconds), percentiles(cpu_seconds)


def _send(camera: Viewer, frames: Sequence[Frame], count: int, fps: float) -> None:
    began = time.monotonic()
    first = camera.sent
    for number in range(count):
        while (left := began + number / fps - time.monotonic()) > 0:
            camera.take()
            time.sleep(min(0.01, left))
        camera.send(frames[(first + number) % len(frames)].jpeg)
    camera.finish(first)


def _masks(viewers: int, seconds: Sequence[float]) -> Masks:
    return Masks(viewers=viewers, masks=len(seconds), latency_ms=percentiles(seconds))


@contextmanager
def _console(state: Path, log: Path) -> Iterator[tuple[str, int]]:
    """The address that a console prints, and its process id."""
    command = [sys.executable, "-m", "dance_ondevice", "console", "--listen", "127.0.0.1:0"]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [*command, "--state-dir", str(state)], stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        try:
            assert process.stdout is not None
            address = process.stdout.readline().decode().strip()
            if not address:
                raise OSError(f"the console did not start: {log.read_text(errors='replace')[-2000:]}")
            yield address, process.pid
        finally:
            process.terminate()


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmRSS:")[1].split()[0]) / 1e6
