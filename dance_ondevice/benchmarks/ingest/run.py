"""``bench ingest``: a daemon of its own, real senders, and the smallest possible receiver beside it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dance_ondevice.benchmarks.ingest.baseline import receiver
from dance_ondevice.benchmarks.ingest.limits import measure_limits
from dance_ondevice.benchmarks.ingest.report import TARGET_RATIO, IngestReport, Stretch
from dance_ondevice.benchmarks.ingest.sending import Cameras, Tally
from dance_ondevice.complexity import grey_reduction
from dance_ondevice.daemon.control import client
from dance_ondevice.daemon.control.instances import DaemonFile
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.demo.process import DaemonProcess, write_config
from dance_ondevice.images import codec as images

HEIGHT, WIDTH = 480, 640
#: Frames of the street between two that are sent: far enough apart that the scene has changed.
_STRIDE = 7
_CAMERAS, _FPS = 4, 30.0
_READY_SECONDS = 60.0
_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        frames: Number of frames at full speed, and for the baseline.
        distinct: Number of different images among them.
        window: Frames of one sender that may wait for an answer at a time.
        scales: Candidate scales of the daemon.
        loads: Loads at which latency is measured, as shares of the full speed.
        load_seconds: Seconds of each load, and of the four cameras.
        with_round: Whether a training round runs beside the four cameras.
    """

    frames: int = 2000
    distinct: int = 12
    window: int = 32
    scales: tuple[float, ...] = (1.0, 0.75, 0.5)
    loads: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 0.9)
    load_seconds: float = 10.0
    with_round: bool = False


@dataclass(frozen=True)
class Street:
    """Frames of the synthetic street as JPEG, and their labels as PNG of class ids."""

    jpegs: list[bytes]
    labels: list[bytes]


def street(distinct: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Street:
    """Render ``distinct`` frames of the synthetic street at (height, width), with their labels."""
    camera = StreetCamera(seed=0, height=size[0], width=size[1])
    pairs = [camera.render(_STRIDE * number, "day") for number in range(distinct)]
    return Street(
        [images.encode_jpeg(image, _QUALITY) for image, _ in pairs],
        [images.encode_label(label) for _, label in pairs],
    )


def run(plan: Plan, folder: Path, *, say: Callable[[str], None]) -> IngestReport:
    """Measure everything.

    Args:
        plan: How much to measure.
        folder: Empty folder for the daemon's state, on the disk to be measured.
        say: Called with the name of each step as it begins.

    Raises:
        DaemonDied: The daemon ended.
        Stuck: The daemon does not answer frames.
        ClientError: The daemon refused a request, or no round started.
        OSError: A file cannot be written.
    """
    say("rendering frames")
    scene = street(plan.distinct)
    reduction = grey_reduction(HEIGHT, WIDTH)
    say("measuring the board")
    limits = measure_limits(
        scene.jpegs[0], reduction, folder, messages=max(50, plan.frames // 2), window=plan.window
    )
    say("receiving and decoding only")
    with receiver(reduction) as loop, Cameras(loop.endpoint, ["front"], scene.jpegs, plan.window) as cameras:
        cameras.stream(max(10, plan.frames // 10))
        tally = cameras.stream(plan.frames)
    baseline = tally.answered / tally.seconds
    stretches = []
    with _daemon(folder / "plain", plan) as daemon:
        say("full speed")
        with Cameras(daemon.endpoint, ["front"], scene.jpegs, plan.window) as cameras:
            cameras.stream(max(20, plan.frames // 10))  # past the policy's warm-up
            full = daemon.measure("full speed", cameras, plan.frames)
            stretches.append(full)
            for load in plan.loads:
                rate = load * full.rate
                say(f"{load:.0%} of full speed")
                frames = max(10, round(rate * plan.load_seconds))
                stretches.append(daemon.measure(f"{load:.0%} of full speed", cameras, frames, fps=rate))
        if not plan.with_round:
            stretches.append(_four(daemon, scene, plan, say))
    with _daemon(folder / "drops", plan, drop_fraction=0.95) as daemon:
        say("nearly all dropped")
        with Cameras(daemon.endpoint, ["front"], scene.jpegs, plan.window) as cameras:
            cameras.stream(max(20, plan.frames // 10))
            stretches.insert(1, daemon.measure("nearly all dropped", cameras, plan.frames))
    if plan.with_round:
        with _daemon(folder / "round", plan) as daemon:
            stretches.append(_four(daemon, scene, plan, say))
    ratio = full.rate / baseline
    return IngestReport(
        frame=(HEIGHT, WIDTH),
        frame_bytes=round(sum(map(len, scene.jpegs)) / len(scene.jpegs)),
        window=plan.window,
        scales=plan.scales,
        baseline_rate=baseline,
        ratio=ratio,
        on_target=ratio >= TARGET_RATIO,
        stretches=stretches,
        limits=limits,
        disk=_file_system(folder),
    )


class _Daemon:
    """A daemon that has started and answers."""

    def __init__(self, facts: DaemonFile) -> None:
        self.facts = facts
        self.endpoint = facts.ingest[0]

    def measure(
        self, name: str, cameras: Cameras, frames_each: int, fps: float | None = None, count: int = 1
    ) -> Stretch:
        """Send frames and measure the CPU time that the daemon needed for them."""
        before = _cpu_seconds(self.facts.pid)
        tally = cameras.stream(frames_each, fps)
        cpu = _cpu_seconds(self.facts.pid) - before
        return _stretch(name, tally, cpu, cameras=count, offered=None if fps is None else fps * count)


@contextmanager
def _daemon(folder: Path, plan: Plan, drop_fraction: float = 0.3) -> Iterator[_Daemon]:
    folder.mkdir()
    values: Mapping[str, Mapping[str, object]] = {
        "ingest": {"bind": ["tcp://127.0.0.1:*"]},
        "data_slimming": {"scales": list(plan.scales), "drop_fraction": drop_fraction},
        "storage": {"min_free_bytes": 0},
        "inference": {"enabled": False},
        "metrics": {"enabled": False},
        "model": {"size": [320, 240]},
        "training": {"min_new_samples": 8, "interval": "24h", "epochs": 1000, "early_stopping": False},
        "energy": {"budget_joules_per_day": 1e7, "max_watts": 10.0},
    }
    write_config(folder / "config.toml", values)
    with DaemonProcess(folder / "config.toml", folder / "state", folder / "daemon.log") as process:
        yield _Daemon(process.wait_ready(_READY_SECONDS, lambda: None))


def _four(daemon: _Daemon, scene: Street, plan: Plan, say: Callable[[str], None]) -> Stretch:
    """Measure four cameras at 30 frames a second, with a training round beside them if the plan has one."""
    names = [f"camera-{number}" for number in range(_CAMERAS)]
    frames = max(10, round(_FPS * plan.load_seconds))
    with Cameras(daemon.endpoint, names, scene.jpegs, plan.window) as cameras:
        cameras.stream(20, _FPS, label=scene.labels.__getitem__ if plan.with_round else None)
        if not plan.with_round:
            say("four cameras")
            return daemon.measure("4 cameras at 30 fps", cameras, frames, fps=_FPS, count=_CAMERAS)
        say("four cameras and a round")
        client.request(daemon.facts.control, "train_now")
        watch = _RoundWatch(daemon.facts.control)
        watch.wait_for_round(_READY_SECONDS)
        watch.start()
        try:
            found = daemon.measure("4 cameras at 30 fps, a round", cameras, frames, fps=_FPS, count=_CAMERAS)
        finally:
            watch.stop()
    return replace(found, round_share=watch.share)


class _RoundWatch:
    """Polls the daemon's status in a thread of its own to find the share of time in which a round runs."""

    _EVERY = 0.5

    def __init__(self, control: str) -> None:
        self._control = control
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="round-watch")
        self._polls = 0
        self._running = 0

    @property
    def share(self) -> float:
        """Share of the polls that found a round running."""
        return self._running / max(1, self._polls)

    def wait_for_round(self, seconds: float) -> None:
        """Wait until the trainer has done its first step.

        Raises:
            ClientError: No round started within ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            rounds = client.request(self._control, "status")["rounds"]
            if rounds["step"]:
                return
            time.sleep(0.1)
        raise client.ClientError(f"no round started within {seconds:g} s: {rounds}")

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling."""
        self._ended.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._ended.wait(self._EVERY):
            self._polls += 1
            self._running += client.request(self._control, "status")["rounds"]["running"] is not None


def _stretch(name: str, tally: Tally, cpu: float, *, cameras: int, offered: float | None) -> Stretch:
    return Stretch(
        name=name,
        cameras=cameras,
        offered_per_second=offered,
        sent=tally.sent,
        kept=tally.kept,
        dropped=tally.dropped,
        refused=tally.refused,
        overflow=tally.overflow,
        seconds=tally.seconds,
        rate=tally.answered / tally.seconds,
        ack_ms=percentiles(tally.latencies),
        daemon_cpu_us=1e6 * cpu / max(1, tally.sent),
    )


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Convert durations in seconds to milliseconds at the 50th, 99th and 100th percentile."""
    return {str(q): float(1e3 * np.percentile(seconds, q)) for q in (50, 99, 100)}


def _cpu_seconds(pid: int) -> float:
    """User and system seconds of a process without its children (proc(5), stat); NaN without procfs."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return float("nan")  # not Linux
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _file_system(folder: Path) -> str:
    """Type of the file system of a folder; "" where there is no ``/proc/mounts``."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    mounts = {Path(line.split()[1]): line.split()[2] for line in lines}
    return next((mounts[p] for p in (folder.resolve(), *folder.resolve().parents) if p in mounts), "")
