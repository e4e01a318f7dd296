"""One round on a new scene: a base model meets frames unlike those it was trained on, and learns once.

Nothing is simulated: the daemon runs as a process of its own with its default configuration, the frames come
over its socket from the program's own sender, and the two models are scored on images that neither saw.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dance_ondevice.benchmarks.first_round_report import FirstRoundReport, ModelScore
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.demo.process import DaemonProcess, write_config
from dance_ondevice.images.confusion import iou_per_class, miou
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.evaluation import evaluate

_READY_SECONDS = 180.0


class FirstRoundError(RuntimeError):
    """A step of the measurement failed; the text says which and why."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The new scene: images and labels to stream, and labelled images to measure on."""

    dataset: str
    images: Path
    labels: Path
    match: str
    measured: Sequence[TrainingSample]
    measured_on: str


def run_first_round(
    scene: Scene, base: Path, folder: Path, *, say: Callable[[str], None] = lambda line: None
) -> FirstRoundReport:
    """Stream the scene to a fresh daemon that starts from ``base``, let it learn once, and score both models.

    Args:
        scene: what is streamed and measured.
        base: folder of the base model.
        folder: an empty folder for the daemon's state.
        say: is told each step.

    Raises:
        FirstRoundError: the daemon, the stream or the round failed.
        CheckpointError: a model does not load.
    """
    config = folder / "site.toml"
    write_config(
        config,
        {
            "model": {"weights": str(base.resolve())},
            "ingest": {"bind": ["tcp://127.0.0.1:*"]},
            "inference": {"publish": "tcp://127.0.0.1:*"},
            "metrics": {"listen": "127.0.0.1:0"},
            # Only the round that is asked for: the measurement is of one.
            "training": {"interval": "30d"},
        },
    )
    state = folder / "state"
    with DaemonProcess(config, state, folder / "daemon.log") as daemon:
        facts = daemon.wait_ready(_READY_SECONDS, lambda: None)
        say("streaming")
        sent = _command(
            "stream", str(scene.images), "--labels", str(scene.labels), "--match", scene.match,
            "--camera", "dash", "--to", facts.ingest[0], "--json",
        )  # fmt: skip
        say("training")
        outcome = _command("train-now", "--wait", "--json", "--state-dir", str(state))
        status = daemon.status()
    say("scoring")
    versions = StatePaths(state).models
    before, base_card = _score(versions / "v0001", scene)
    live = str(status["version"])
    after, live_card = (before, None) if live == "v0001" else _score(versions / live, scene)
    return FirstRoundReport(
        dataset=scene.dataset,
        streamed=f"{scene.match}, {sent['sent']} images with labels",
        measured_on=scene.measured_on,
        base=base_card.training,
        before=before,
        after=after,
        outcome=outcome["outcome"],
        reasons=outcome["reasons"],
        frames={key: sent[key] for key in ("sent", "kept", "dropped", "rejected", "overflow")},
        round={key: outcome[key] for key in _ROUND_KEYS},
        round_cpu_seconds=outcome["cpu_seconds"],
        round_precision=str(live_card.training.get("precision", "")) if live_card else "",
    )


_ROUND_KEYS = (
    "miou_before", "miou_after", "steps", "seconds", "joules", "gross_joules", "method",
)  # fmt: skip


def _score(directory: Path, scene: Scene) -> tuple[ModelScore, ModelCard]:
    model, card = checkpoint.load(directory)
    matrix = evaluate(model, scene.measured, card.normalisation, len(card.classes))
    score = ModelScore(
        version=card.version,
        miou=miou(matrix),
        iou_per_class=dict(zip(card.classes, iou_per_class(matrix), strict=True)),
        macs=card.macs,
        parameters=card.parameters,
        macs_at=card.macs_at,
    )
    return score, card


def _command(*arguments: str) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-m", "dance_ondevice", *arguments], capture_output=True, text=True, check=False
    )
    try:
        answer: dict[str, Any] = json.loads(ran.stdout)
    except ValueError as error:
        raise FirstRoundError(f"dance-ondevice {arguments[0]} failed: {ran.stderr.strip()}") from error
    if ran.returncode != 0:
        raise FirstRoundError(f"dance-ondevice {arguments[0]} ended with {ran.returncode}: {answer}")
    return answer
