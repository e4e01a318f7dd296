"""``bench service``: two builds as processes, fed the same frames in turn, each by its own CPU counters."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dance_ondevice.benchmarks.service import full_speed, paced, scenes
from dance_ondevice.benchmarks.service.builds import Build
from dance_ondevice.benchmarks.service.daemons import Config, Daemon
from dance_ondevice.benchmarks.service.model import slimmed
from dance_ondevice.benchmarks.service.report import Ingest, Ready, Scene, ServiceReport
from dance_ondevice.benchmarks.service.scenes import Frame
from dance_ondevice.complexity import grey_reduction

HEIGHT, WIDTH = 480, 640
#: Different frames of the driving camera; they are sent over and over.
_DISTINCT = 120
#: Different frames of ingest: more than the pictures that a new one is compared with.
_UNLIKE = 320
_DRIVING_FPS, _STANDING_FPS = 2.0, 5.0

#: How frames are stored at full speed: the section ``data_slimming``. Only the default drops any.
STORED: Mapping[str, Mapping[str, object]] = {
    "default slimming": {},
    "as they come": {"scales": [1.0], "drop_fraction": 0.0, "screen": False},
    "at 0.75": {"scales": [0.75], "drop_fraction": 0.0, "screen": False},
    "at 0.5": {"scales": [0.5], "drop_fraction": 0.0, "screen": False},
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        minutes: Of the driving camera; 0 leaves it out.
        standing_seconds: Of each standing camera; 0 leaves them out.
        frames: Of a turn of ingest at full speed.
        turns: Of ingest; 0 leaves it out.
        starts: How often each build is started to time READY; 0 leaves it out.
        scale: That frames are segmented at.
        share: Of the model's multiply-accumulates that is left.
        model: Folder of the model; None for the one that comes along.
        distinct: Different frames of the driving camera.
        size: (height, width) of the frames.
    """

    minutes: float = 10.0
    standing_seconds: float = 120.0
    frames: int = 500
    turns: int = 7
    starts: int = 5
    scale: float = 0.75
    share: float = 0.45
    model: Path | None = None
    distinct: int = _DISTINCT
    size: tuple[int, int] = (HEIGHT, WIDTH)


def run(plan: Plan, builds: Sequence[Build], folder: Path, *, say: Callable[[str], None]) -> ServiceReport:
    """Measure everything; ``folder`` is where the daemons keep their state.

    Raises:
        DaemonDied: A daemon ended.
        ClientError: One does not answer or obey.
        Stuck: One does not answer.
        BuildFailed: A build does not run.
    """
    say("slimming the model")
    model = slimmed(folder / "model", plan.share, plan.model)
    bench = _Bench(plan, builds, folder, say)
    ingest = bench.ingest()
    here, there = bench.ready()
    found = bench.scenes()
    return ServiceReport(
        here=builds[0].name,
        there=builds[1].name if len(builds) > 1 else "",
        frame=plan.size,
        model=model,
        scale=plan.scale,
        meter=bench.meter,
        scenes=found,
        ingest=ingest,
        ready_here=here,
        ready_there=there,
    )


class _Bench:
    def __init__(self, plan: Plan, builds: Sequence[Build], folder: Path, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._builds = builds
        self._folder = folder
        self._say = say
        self._number = 0
        self.meter = ""

    def scenes(self) -> list[Scene]:
        """Serve the cameras."""
        plan, found = self._plan, []
        if plan.minutes > 0:
            self._say("rendering frames")
            count = min(plan.distinct, max(1, round(60 * plan.minutes * _DRIVING_FPS)))
            driving = scenes.driving(count, _DRIVING_FPS, plan.size)
            found.append(self._scene("a driving camera", driving, _DRIVING_FPS, 60 * plan.minutes))
        if plan.standing_seconds > 0:
            count = max(1, round(plan.standing_seconds * _STANDING_FPS))
            for name, make in (
                ("a standing camera, 30 % of the time busy", scenes.standing),
                ("a standing camera, 30 % of the traffic", scenes.thin),
            ):
                self._say("rendering frames")
                frames = make(count, _STANDING_FPS, plan.size)
                found.append(self._scene(name, frames, _STANDING_FPS, plan.standing_seconds, reuse=True))
        return found

    def ingest(self) -> list[Ingest]:
        """Race."""
        plan = self._plan
        found: list[Ingest] = []
        if plan.turns == 0:
            return found
        self._say("rendering frames")
        jpegs = scenes.distinct(_UNLIKE, plan.size)
        for name, slimming in STORED.items():
            with self._started(
                _config({"data_slimming": slimming, "inference": {"enabled": False}})
            ) as daemons:
                found.append(
                    full_speed.race(
                        name,
                        daemons,
                        jpegs,
                        reduction=grey_reduction(*plan.size),
                        count=plan.frames,
                        turns=plan.turns,
                        say=self._say,
                    )
                )
        return found

    def ready(self) -> tuple[Ready | None, Ready | None]:
        """Start each build several times, in turn."""
        found: list[list[tuple[float, float]]] = [[] for _ in self._builds]
        for number in range(self._plan.starts):
            self._say(f"start {number + 1} of {self._plan.starts}")
            for place, build in enumerate(self._builds):
                # The same folder each time: the second start finds what the first one made, such as a graph.
                with self._daemon(build, f"ready-{place}", self._serving(), again=True) as daemon:
                    cpu = daemon.cpu()
                    found[place].append((daemon.ready_seconds, cpu.own + cpu.children))
        ready = [_ready(each) for each in found]
        return ready[0], ready[1] if len(ready) > 1 else None

    def _scene(
        self, name: str, frames: Sequence[Frame], fps: float, seconds: float, *, reuse: bool = False
    ) -> Scene:
        with self._started(self._serving(reuse=reuse)) as daemons:
            self.meter = daemons[0].joules()[1]
            return paced.serve(name, daemons, frames, fps=fps, seconds=seconds, score=True, say=self._say)

    def _serving(self, *, reuse: bool = False) -> Config:
        plan = self._plan
        return _config(
            {
                "data_slimming": {"scales": [plan.scale]},
                "inference": {"publish": "tcp://127.0.0.1:*", "threads": 1, "reuse": reuse},
                "model": {"weights": str(self._folder / "model")},
            }
        )

    @contextlib.contextmanager
    def _started(self, config: Config) -> Iterator[list[Daemon]]:
        self._number += 1
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(self._daemon(build, f"{self._number}-{place}", config))
                for place, build in enumerate(self._builds)
            ]

    def _daemon(self, build: Build, name: str, config: Config, *, again: bool = False) -> Daemon:
        return Daemon(build, self._folder / name, config, again=again)


def _config(values: Config) -> Config:
    """A configuration under which no round runs and nothing but the named values differs from the default."""
    return {
        "ingest": {"bind": ["tcp://127.0.0.1:*"]},
        "storage": {"min_free_bytes": 0},
        "metrics": {"enabled": False},
        "training": {"interval": "24h", "min_new_samples": 1_000_000},
        **values,
    }


def _ready(starts: Sequence[tuple[float, float]]) -> Ready | None:
    if not starts:
        return None
    return Ready(
        seconds=statistics.median(wall for wall, _ in starts),
        cpu_seconds=statistics.median(cpu for _, cpu in starts),
    )
