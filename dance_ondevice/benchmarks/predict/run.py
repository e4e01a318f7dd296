"""``bench predict``: engines side by side, then a daemon that serves alone and beside a round."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import zmq

from dance_ondevice.benchmarks.ingest.limits import conv_gflops
from dance_ondevice.benchmarks.ingest.run import HEIGHT, WIDTH, Street, percentiles, street
from dance_ondevice.benchmarks.predict.engines import MERGED, ONNX, compare
from dance_ondevice.benchmarks.predict.report import TARGET_RATIO, PredictReport, Served
from dance_ondevice.daemon import client
from dance_ondevice.daemon.instances import DaemonFile
from dance_ondevice.demo.process import DaemonProcess, write_config
from dance_ondevice.labels import STREET_CLASSES
from dance_ondevice.models.cost import count_parameters
from dance_ondevice.models.registry import build

_READY_SECONDS = 120.0
_ROUND_SECONDS = 900.0
#: Seconds that the masks of the last frames may take.
_LAST_SECONDS = 10.0
_LESSONS = 24


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        passes: forward passes of each engine.
        seconds: of serving an idle board; a round takes what it takes.
        fps: frames a second, few enough that none is skipped for the next.
        threads: of a forward pass when engines are compared.
        architecture: what is measured.
        train_size: (width, height) that the round trains at.
        epochs: of the round.
    """

    passes: int = 50
    seconds: float = 30.0
    fps: float = 5.0
    threads: int = 1
    architecture: str = "fastscnn"
    train_size: tuple[int, int] = (320, 240)
    epochs: int = 4


def run(plan: Plan, folder: Path, *, say: Callable[[str], None]) -> PredictReport:
    """Measure everything.

    Raises:
        DaemonDied: the daemon ended.
        ClientError: it does not obey, or its round does not end.
    """
    say("comparing engines")
    model = build(plan.architecture, len(STREET_CLASSES), {}).eval()
    engines = compare(model, (HEIGHT, WIDTH), passes=plan.passes, threads=plan.threads)
    times = {engine.name: engine.ms["50"] for engine in engines}
    say("rendering frames")
    scene = street(12)
    write_config(folder / "config.toml", _config(plan))
    with DaemonProcess(folder / "config.toml", folder / "state", folder / "daemon.log") as process:
        facts = process.wait_ready(_READY_SECONDS, lambda: None)
        with _Board(facts, scene, plan.fps) as board:
            board.teach(_LESSONS)
            say("an idle board")
            until = time.monotonic() + plan.seconds
            idle = board.serve("idle", lambda: time.monotonic() >= until)
            say("a round")
            client.request(facts.control, "train_now")
            beside = board.serve("beside a round", board.round_is_over, fewest=round(plan.fps * 2))
            status = client.request(facts.control, "status")
    ratio = beside.latency_ms["99"] / idle.latency_ms["99"]
    quickest = min(times[MERGED], times.get(ONNX, times[MERGED]))
    return PredictReport(
        architecture=plan.architecture,
        parameters=count_parameters(model),
        size=(HEIGHT, WIDTH),
        threads=plan.threads,
        fps=plan.fps,
        engines=engines,
        of_onnxruntime=quickest / times[ONNX] if ONNX in times else None,
        idle=idle,
        beside_round=beside,
        ratio=ratio,
        on_target=ratio <= TARGET_RATIO and beside.lost == 0,
        lost_at_swap=beside.lost,
        engine=status["inference"]["engine"],
        round_outcome=(status["rounds"]["last"] or {}).get("outcome", "none"),
        conv_gflops=conv_gflops(),
    )


def _config(plan: Plan) -> Mapping[str, Mapping[str, object]]:
    return {
        "ingest": {"bind": ["tcp://127.0.0.1:*"]},
        # One size for all frames: latencies are to be compared.
        "data_slimming": {"enabled": False},
        "storage": {"min_free_bytes": 0},
        "inference": {"publish": "tcp://127.0.0.1:*"},
        "conditions": {"enabled": False},
        "metrics": {"enabled": False},
        "model": {"architecture": plan.architecture, "size": list(plan.train_size)},
        # Whatever is learnt from so little must serve in the end: it is the swap that is looked at.
        "promotion": {
            "min_gain": -1.0,
            "max_class_drop": 1.0,
            "max_condition_drop": 1.0,
            "max_latency_ratio": 1000.0,
            "probation_samples": 0,
        },
        "training": {
            "min_new_samples": 8,
            "interval": "24h",
            "epochs": plan.epochs,
            "early_stopping": False,
            "gate_block": "0.5s",
        },
        "energy": {"budget_joules_per_day": 1e7, "max_watts": 10.0},
    }


class _Board:
    """One camera, and someone who looks at its masks."""

    def __init__(self, facts: DaemonFile, scene: Street, fps: float) -> None:
        self._control = facts.control
        self._scene = scene
        self._fps = fps
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._camera = self._context.socket(zmq.DEALER)
        self._camera.connect(facts.ingest[0])
        self._masks = self._context.socket(zmq.SUB)
        self._masks.setsockopt(zmq.SUBSCRIBE, b"mask/")
        assert facts.inference is not None
        self._masks.connect(facts.inference)
        self._numbers = itertools.count()
        self._looked = 0.0
        self._started = False
        self._over = False

    def __enter__(self) -> _Board:
        """Nothing more to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._camera.close(linger=0)
        self._masks.close(linger=0)
        self._context.term()

    def teach(self, frames: int) -> None:
        """Send labelled frames and wait for their masks, which also tells that the subscription stands."""
        for _ in range(frames):
            self._send(labelled=True)
            self._camera.recv_multipart()
        deadline = time.monotonic() + _LAST_SECONDS
        while time.monotonic() < deadline:
            self._send(labelled=True)
            self._camera.recv_multipart()
            if self._masks.poll(500):
                break
        while self._masks.poll(1000):
            self._masks.recv_multipart()

    def round_is_over(self) -> bool:
        """Whether the round has come and gone; asks every half second at most."""
        if time.monotonic() - self._looked >= 0.5:
            self._looked = time.monotonic()
            rounds = client.request(self._control, "status")["rounds"]
            self._over = rounds["running"] is None and rounds["count"] > 0
            self._started = rounds["step"] is not None
        return self._over

    def serve(self, name: str, over: Callable[[], bool], *, fewest: int = 0) -> Served:
        """Send frames on schedule until ``over``, and ``fewest`` more, and take the masks.

        Raises:
            ClientError: it is not over after a quarter of an hour.
        """
        started = time.monotonic()
        sent: set[int] = set()
        found: list[Mapping[str, Any]] = []
        beside = 0
        more = fewest
        while more > 0 or not over():
            more -= over()
            if time.monotonic() - started > _ROUND_SECONDS:
                raise client.ClientError(f"not over after {_ROUND_SECONDS:g} s: {name}")
            sent.add(self._send())
            due = started + len(sent) / self._fps
            while (left := due - time.monotonic()) > 0:
                if self._masks.poll(ceil(1000 * left)):
                    found.append(json.loads(self._masks.recv_multipart()[1]))
                    beside += self._started and not self._over
            while self._camera.poll(0):
                self._camera.recv_multipart()
        deadline = time.monotonic() + _LAST_SECONDS
        while len(found) < len(sent) and (left := deadline - time.monotonic()) > 0:
            if self._masks.poll(ceil(1000 * left)):
                found.append(json.loads(self._masks.recv_multipart()[1]))
        masked = {mask["seq"] for mask in found}
        if not masked:
            raise client.ClientError(f"no masks came: {name}")
        return Served(
            name=name,
            sent=len(sent),
            masks=len(found),
            lost=len(sent - masked),
            latency_ms=percentiles([mask["latency_s"] for mask in found]),
            versions=list(dict.fromkeys(mask["model_version"] for mask in found)),
            round_share=beside / len(found),
        )

    def _send(self, *, labelled: bool = False) -> int:
        number = next(self._numbers)
        index = number % len(self._scene.jpegs)
        header = {
            "v": 1,
            "camera": "front",
            "seq": number,
            "captured_at": time.time(),
            "encoding": "jpeg",
        }
        parts = [json.dumps(header).encode(), self._scene.jpegs[index]]
        self._camera.send_multipart(parts + ([self._scene.labels[index]] if labelled else []))
        return number
