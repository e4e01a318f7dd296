"""``bench service``: two builds as processes, fed the same frames in turn, each by its own CPU counters."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dance_ondevice.benchmarks.predict import run as predicting
from dance_ondevice.benchmarks.predict.engines import compare
from dance_ondevice.benchmarks.service import full_speed, paced, scenes
from dance_ondevice.benchmarks.service.builds import Build
from dance_ondevice.benchmarks.service.daemons import Config, Daemon
from dance_ondevice.benchmarks.service.model import slimmed
from dance_ondevice.benchmarks.service.report import Ingest, Race, Ready, Resident, Scene, ServiceReport
from dance_ondevice.benchmarks.service.scenes import Frame
from dance_ondevice.complexity import grey_reduction
from dance_ondevice.models import checkpoint, packaged

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
#: By what a result calls them: those whose rate is held against the loop's, and those by scale.
_OF_LOOP = {"default": "default slimming", "native": "as they come"}
_KEPT = {"1.0": "as they come", "0.75": "at 0.75", "0.5": "at 0.5"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        minutes: Of the driving camera; 0 leaves it out.
        standing_seconds: Of each standing camera; 0 leaves them out.
        frames: Of a turn of ingest at full speed.
        turns: Of ingest; 0 leaves it out.
        starts: How often each build is started to time READY; 0 leaves it out.
        passes: Of each engine; 0 leaves them out.
        rounds: Of this build, beside which masks are timed; 0 leaves them out.
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
    passes: int = 16
    rounds: int = 2
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
    scenarios = bench.scenarios()
    return ServiceReport(
        here=builds[0].name,
        against=builds[1].name if len(builds) > 1 else "",
        frame=plan.size,
        model=model,
        scale=plan.scale,
        meter=bench.meter,
        scenarios=scenarios,
        predict=_predict(plan, say),
        rss_bytes=_resident(scenarios),
        ready_seconds=here.seconds if here else None,
        ready_here=here,
        ready_there=there,
        ingest=ingest,
        p99_beside_round=_beside_rounds(plan, folder / "rounds", say),
    )


def _predict(plan: Plan, say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """CPU time of a mask by engine and scale, by that in torch as it was trained."""
    if plan.passes == 0:
        return {}
    say("comparing engines")
    model, card = checkpoint.load(packaged.FOLDER if plan.model is None else plan.model)
    found: dict[str, dict[str, float]] = {}
    for each in compare(model, card, plan.size, passes=plan.passes, threads=(1,), share=plan.share):
        if each.model == "slimmed":
            found.setdefault(each.name, {})[f"{each.scale}"] = each.cpu_ratio
    return found


def _beside_rounds(plan: Plan, folder: Path, say: Callable[[str], None]) -> float | None:
    if plan.rounds == 0:
        return None
    folder.mkdir()
    return predicting.beside_rounds(
        predicting.Plan(rounds=plan.rounds, size=plan.size), folder, say=say
    ).ratio


def _resident(scenarios: Mapping[str, Scene]) -> Resident | None:
    used = scenarios["camera"].here if "camera" in scenarios else None
    if used is None or math.isnan(used.resident_mb):  # too short a run to have looked
        return None
    return Resident(median=round(1e6 * used.resident_mb), highest=round(1e6 * used.peak_mb))


class _Bench:
    def __init__(self, plan: Plan, builds: Sequence[Build], folder: Path, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._builds = builds
        self._folder = folder
        self._say = say
        self._number = 0
        self.meter = ""

    def scenarios(self) -> dict[str, Scene]:
        """Serve the cameras."""
        plan = self._plan
        found: dict[str, Scene] = {}
        if plan.minutes > 0:
            self._say("rendering frames")
            count = min(plan.distinct, max(1, round(60 * plan.minutes * _DRIVING_FPS)))
            driving = scenes.driving(count, _DRIVING_FPS, plan.size)
            found["camera"] = self._scene("a driving camera", driving, _DRIVING_FPS, 60 * plan.minutes)
        if plan.standing_seconds > 0:
            count = max(1, round(plan.standing_seconds * _STANDING_FPS))
            for key, name, make in (
                ("standing", "a standing camera, 30 % of the time busy", scenes.standing),
                ("thin", "a standing camera, 30 % of the traffic", scenes.thin),
            ):
                self._say("rendering frames")
                frames = make(count, _STANDING_FPS, plan.size)
                found[key] = self._scene(name, frames, _STANDING_FPS, plan.standing_seconds, reuse=True)
        return found

    def ingest(self) -> Ingest:
        """Race."""
        plan = self._plan
        if plan.turns == 0:
            return Ingest()
        found: list[Race] = []
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
        return _ingest(found)

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


def _ingest(races: Sequence[Race]) -> Ingest:
    by_name = {race.name: race for race in races}
    return Ingest(
        of_bare_loop={key: by_name[name].of_loop for key, name in _OF_LOOP.items() if name in by_name},
        kept_cpu_ratio={
            key: ratio
            for key, name in _KEPT.items()
            if name in by_name and (ratio := by_name[name].kept_cpu_ratio) is not None
        },
        races=list(races),
    )


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
