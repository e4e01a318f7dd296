"""The demonstration from its first frame to its report."""

from __future__ import annotations

import itertools
import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.demo import records, shares
from dance_ondevice.demo.display import Display
from dance_ondevice.demo.process import DaemonProcess, write_config
from dance_ondevice.demo.reporting.page import render as render_page
from dance_ondevice.demo.reporting.report import DemoReport, Frames, Joules, Phase
from dance_ondevice.demo.reporting.report_file import REPORT_FILE, as_json
from dance_ondevice.demo.scrape import Scrape
from dance_ondevice.demo.session import PhasePlan, PhaseRecord, Progress, Stream, StreamOptions
from dance_ondevice.demo.workspace import Workspace
from dance_ondevice.images.labels import STREET_CLASSES

if TYPE_CHECKING:
    from dance_ondevice.demo.evaluate import PhaseScores

#: Phases of the stream; the first model is trained on the day alone.
PHASES = (
    PhasePlan("day", "day", drifted=False, rounds=1),
    PhasePlan("dusk", "dusk", drifted=True, promotions=2, rounds=3, most_rounds=3),
    PhasePlan("rain", "rain", drifted=True, promotions=2, rounds=3, most_rounds=3),
    PhasePlan("day again", "day", drifted=False, promotions=1, most_rounds=2),
)
#: (height, width) of a frame: small enough for two cores to pretrain, learn and predict in four minutes.
SIZE = (144, 192)
#: Offsets of the seed: evaluation and pretraining use other streets than the stream.
_EVAL_SEED, _PRETRAIN_SEED = 1_000_003, 2_000_003
#: Frames of the street between two that are sent, so that a few seconds contain enough different scenes.
STREAM_STRIDE = 4
#: Starting takes seconds, and on a very busy machine minutes; one that dies is noticed at once.
READY_SECONDS = 300.0
PRETRAIN_FRAMES = 160
_PRETRAIN_STRIDE = 7
#: Steps that are timed first, to know how many there is time for.
_TIMED_STEPS = 4


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Options of a demonstration.

    Attributes:
        seed: Seed of the streets, the first model and every round.
        max_seconds: Time limit in seconds.
        out: Folder of the report.
        eval_frames: Number of evaluation frames of each phase.
    """

    seed: int
    max_seconds: float
    out: Path
    eval_frames: int = 20


def run_demo(options: DemoOptions, workspace: Workspace, display: Display) -> DemoReport:
    """Run everything and write the report, which ``verdict.judge`` interprets.

    Args:
        workspace: Empty, for the daemon's state, the first model and the evaluation frames.

    Raises:
        DaemonDied: The daemon ended early.
        OSError, RuntimeError, ValueError: Any other failure of the demonstration.
    """
    epochs = pretrain(workspace.base, workspace.root / "pretraining", options, display)
    write_config(workspace.config, configuration(workspace.base))
    street = StreetCamera(seed=options.seed, height=SIZE[0], width=SIZE[1])

    options.out.mkdir(parents=True, exist_ok=True)
    with DaemonProcess(workspace.config, workspace.state, options.out / "daemon.log") as daemon:
        facts = daemon.wait_ready(READY_SECONDS, lambda: display.show("starting the daemon", {}))
        stream = Stream(
            daemon,
            facts,
            lambda seq, condition: street.render(seq * STREAM_STRIDE, condition),
            StreamOptions(),
            on_progress=lambda progress: display.show(f"streaming: {progress.phase}", _facts(progress)),
        )
        left = shares.stream_seconds(elapsed=display.elapsed, max_seconds=options.max_seconds)
        phases = stream.run(PHASES, left)
        display.show("stopping the daemon", {})
        status = daemon.stop()
    return _conclude(
        options, workspace, display, progress=stream.progress, phases=phases, status=status, epochs=epochs
    )


def pretrain(out: Path, frames_folder: Path, options: DemoOptions, display: Display) -> int:
    """Train the first model on the street by day; returns for how many epochs."""
    from dance_ondevice.training import pretraining

    stage, done = "pretraining the first model by day", itertools.count(1)
    samples = pretraining.render_street(
        frames_folder,
        range(0, PRETRAIN_FRAMES * _PRETRAIN_STRIDE, _PRETRAIN_STRIDE),
        ("day",),
        seed=options.seed + _PRETRAIN_SEED,
        size=SIZE,
        on_frame=lambda: display.show(stage, {"frames": f"{next(done)} of {PRETRAIN_FRAMES} rendered"}),
    )
    once = pretraining.PretrainOptions(
        architecture="fastscnn",
        classes=STREET_CLASSES,
        size=SIZE,
        epochs=1,
        seed=options.seed,
        precision="fp32",
        dataset={"name": "synthetic:street", "condition": "day"},
    )
    display.show(stage, {"steps": "timing the first"})
    moments: list[float] = []
    pretraining.pretrain(
        samples[: _TIMED_STEPS * once.batch_size],
        {},
        once,
        frames_folder / "timed",
        watcher=pretraining.Watcher(on_step=lambda _: moments.append(display.elapsed)),
    )
    # The first step also makes what later ones use again.
    step_seconds = (moments[-1] - moments[0]) / max(1, len(moments) - 1)
    epochs = shares.epochs(
        epoch_seconds=step_seconds * PRETRAIN_FRAMES / once.batch_size,
        elapsed=display.elapsed,
        max_seconds=options.max_seconds,
    )
    card = pretraining.pretrain(
        samples,
        {},
        replace(once, epochs=epochs),
        out,
        watcher=pretraining.Watcher(
            on_step=lambda r: display.show(
                stage, {"step": f"{r.step} of {r.steps}", "loss": f"{r.loss:.3f}"}
            ),
            is_over=lambda: shares.pretraining_is_over(display.elapsed, options.max_seconds),
        ),
    )
    return int(card.training["steps"]) * once.batch_size // PRETRAIN_FRAMES


def configuration(base: Path) -> dict[str, dict[str, object]]:
    """Return the daemon's configuration: the defaults scaled down to minutes, with free ports."""
    return {
        "ingest": {"bind": ["tcp://127.0.0.1:*"]},
        "storage": {"quota_bytes": 256 << 20, "min_free_bytes": 64 << 20},
        "model": {
            "architecture": "fastscnn",
            "classes": list(STREET_CLASSES),
            "weights": str(base),
            "size": [SIZE[1], SIZE[0]],
        },
        # Seconds stand for hours: scores are ranked among those of the last eight, rounds may start at once.
        "data_slimming": {"window_frames": 80},
        "network_slimming": {"target_macs_fraction": 0.5, "step": 0.05},
        "training": {
            "interval": "2s",
            "min_new_samples": 32,
            "max_samples": 80,
            "learning_rate": 0.0005,
            "gate_block": "3s",
            "gate_max_samples": 32,
            "precision": "fp32",
            # The user waits for the round; with background priority it would get no time on a busy machine.
            "priority": "normal",
        },
        "inference": {"publish": "tcp://127.0.0.1:0"},
        # On a laptop, rounds must not wait for the battery.
        "energy": {"budget_joules_per_day": 200_000.0, "battery_floor_percent": 0.0},
        "metrics": {"listen": "127.0.0.1:0"},
    }


def _facts(progress: Progress) -> Mapping[str, object]:
    return {
        "phase": f"{progress.phase_seconds:.0f} s, at most {progress.phase_share:.0f} s",
        "frames": f"{progress.sent} sent, {progress.kept} kept, {progress.dropped} dropped",
        "masks": progress.masks,
        "rounds": progress.round_text,
        "live version": f"{progress.live_version} (first {progress.frozen_version})",
    }


def _conclude(
    options: DemoOptions,
    workspace: Workspace,
    display: Display,
    *,
    progress: Progress,
    phases: Sequence[PhaseRecord],
    status: int,
    epochs: int,
) -> DemoReport:
    from dance_ondevice.demo import evaluate

    display.show("rendering fresh frames", {})
    fresh = evaluate.render_fresh(
        workspace.root / "fresh",
        [p.plan for p in phases],
        options.eval_frames,
        seed=options.seed + _EVAL_SEED,
        size=SIZE,
    )
    frozen, final = progress.frozen_version, phases[-1].live_version
    if frozen is None or final is None:
        raise RuntimeError("the daemon never reported which model is live")
    paths = StatePaths(workspace.state)
    lights = records.conditions(paths, _phase_at(phases))
    scores, pictures = evaluate.score(
        paths.models,
        [
            evaluate.PhaseVersions(
                fresh=f, live=p.live_version or frozen, condition=lights.get(p.plan.name, "")
            )
            for f, p in zip(fresh, phases, strict=True)
        ],
        frozen=frozen,
        final=final,
        n_classes=len(STREET_CLASSES),
        on_score=lambda done, of: display.show("evaluating", {"scores": f"{done} of {of}"}),
    )
    found = records.read(paths, _phase_at(phases))
    last = phases[-1].scrape
    report = DemoReport(
        seed=options.seed,
        seconds=display.elapsed,
        frames=_frames(progress, last, found),
        masks_received=progress.masks,
        phases=tuple(_phase(p, s, found, final) for p, s in zip(phases, scores, strict=True)),
        rounds=found.rounds,
        versions=found.versions,
        joules=_joules(last),
        daemon_status=status,
        eval_frames=options.eval_frames,
        eval_seed=options.seed + _EVAL_SEED,
        classes=STREET_CLASSES,
        max_seconds=options.max_seconds,
        epochs=epochs,
    )
    (options.out / REPORT_FILE).write_text(json.dumps(as_json(report), indent=2) + "\n", encoding="utf-8")
    page = render_page(report, pictures, evaluate.legend(STREET_CLASSES))
    (options.out / "report.html").write_text(page, encoding="utf-8")
    return report


def _phase_at(phases: Sequence[PhaseRecord]) -> Callable[[float], str]:
    starts = [p.started_at for p in phases]
    return lambda moment: phases[max(0, bisect_right(starts, moment) - 1)].plan.name


def _frames(progress: Progress, last: Scrape, found: records.Records) -> Frames:
    def counted(outcome: str) -> int:
        return int(last.total("dance_frames_total", outcome=outcome))

    return Frames(
        sent=progress.sent,
        kept=counted("kept"),
        dropped=counted("dropped"),
        rejected=counted("rejected"),
        overflow=counted("overflow"),
        labelled=found.labelled,
        kept_by_scale=found.kept_by_scale,
        dropped_by_scale=dict(progress.dropped_by_scale),
    )


def _phase(record: PhaseRecord, scores: PhaseScores, found: records.Records, final: str) -> Phase:
    macs = {v.version: v.macs for v in found.versions}
    first = next((v.macs for v in found.versions if v.parent is None), 0)

    def change(version: str | None) -> float:
        return macs.get(version or "", first) / first - 1 if first else 0.0

    return Phase(
        name=record.plan.name,
        condition=record.plan.condition,
        drifted=record.plan.drifted,
        seconds=round(record.seconds, 1),
        frames=record.frames,
        masks=record.masks,
        live_version=record.live_version,
        miou_frozen=scores.frozen,
        miou_live=scores.live,
        miou_final=scores.final,
        gain=scores.gain,
        final_gain=scores.final_gain,
        macs_change=change(record.live_version),
        final_macs_change=change(final),
        # Also those that ended after it, so that this agrees with the table of rounds.
        rounds=sum(r.phase == record.plan.name for r in found.rounds),
        rounds_wanted=record.plan.rounds,
        capped=record.capped,
        metrics=record.scrape.flat(),
    )


def _joules(last: Scrape) -> Joules:
    def workload(name: str) -> float:
        return last.total("dance_workload_joules_total", workload=name)

    def label(name: str) -> str:
        return ", ".join(last.label("dance_energy_joules_total", name)) or "unknown"

    return Joules(
        training=workload("training"),
        inference=workload("inference"),
        ingest=workload("ingest"),
        labelling=workload("labelling"),
        method=label("method"),
        source=label("source"),
    )
