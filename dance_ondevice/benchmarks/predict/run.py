"""``bench predict``: engines side by side, then a daemon that serves alone and beside a round."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import zmq

from dance_ondevice.benchmarks.ingest.limits import conv_gflops
from dance_ondevice.benchmarks.ingest.run import HEIGHT, WIDTH, Street, percentiles, street
from dance_ondevice.benchmarks.predict.engines import compare
from dance_ondevice.benchmarks.predict.neighbour import neighbours
from dance_ondevice.benchmarks.predict.report import TARGET_RATIO, PredictReport, Served
from dance_ondevice.daemon.control import client
from dance_ondevice.daemon.control.instances import DaemonFile
from dance_ondevice.daemon.system.cores import cores
from dance_ondevice.demo.process import DaemonProcess, write_config
from dance_ondevice.models import checkpoint, packaged
from dance_ondevice.models.cost import count_parameters

_READY_SECONDS = 120.0
_ROUND_SECONDS = 900.0
#: Longest wait for the masks of the last frames, seconds.
_LAST_SECONDS = 10.0
#: Seconds between two polls of a round's status.
_POLL_SECONDS = 0.5
_LESSONS = 24


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        passes: Number of timed forward passes of each engine.
        rounds: Number of training rounds, 0 to compare engines alone; an idle board is measured before each,
            so that other load on the machine affects both alike.
        seconds: Seconds of each measurement of the idle board; a round lasts as long as its training.
        fps: Frames a second, few enough that the daemon skips none.
        threads: Numbers of threads with which engines are compared.
        architecture: Name of the network.
        size: (height, width) of the frames.
        macs_size: (width, height) at which MACs are counted.
        epochs: Epochs of a round.
    """

    passes: int = 50
    rounds: int = 4
    seconds: float = 45.0
    fps: float = 5.0
    threads: Sequence[int] = (1,)
    architecture: str = "fastscnn"
    size: tuple[int, int] = (HEIGHT, WIDTH)
    macs_size: tuple[int, int] = (320, 240)
    epochs: int = 4


def run(plan: Plan, folder: Path, *, say: Callable[[str], None]) -> PredictReport:
    """Measure everything.

    Raises:
        DaemonDied: The daemon ended.
        ClientError: The daemon refused a request, or its round does not end.
    """
    say("comparing engines")
    model, card = checkpoint.load(packaged.FOLDER)
    engines = compare(model, card, plan.size, passes=plan.passes, threads=plan.threads)
    served = beside_rounds(plan, folder, say=say) if plan.rounds else None
    idle, neighbour, beside = served.parts if served else (None, None, None)
    ratio = served.ratio if served else None
    return PredictReport(
        architecture=plan.architecture,
        parameters=count_parameters(model),
        size=plan.size,
        fps=plan.fps,
        engines=engines,
        idle=idle,
        beside_round=beside,
        ratio=ratio,
        on_target=None if ratio is None or beside is None else ratio <= TARGET_RATIO and beside.lost == 0,
        lost_at_swap=beside.lost if beside else None,
        engine=served.engine if served else None,
        round_outcomes=served.outcomes if served else [],
        conv_gflops=conv_gflops(),
        beside_neighbour=neighbour,
    )


@dataclass(frozen=True)
class Boards:
    """Masks (idle, beside a neighbour, beside rounds), the engine that made them, the rounds' outcomes."""

    parts: tuple[Served, Served, Served]
    engine: str
    outcomes: list[str]

    @property
    def ratio(self) -> float:
        """99th percentile of the masks' latency beside rounds, by that of the idle board."""
        idle, _, beside = self.parts
        return beside.latency_ms["99"] / idle.latency_ms["99"]


def beside_rounds(plan: Plan, folder: Path, *, say: Callable[[str], None]) -> Boards:
    """Serve masks on an idle board, beside another program and beside a round, once for each round.

    Raises:
        DaemonDied: The daemon ended.
        ClientError: The daemon refused a request, or its round does not end.
    """
    say("rendering frames")
    scene = street(12, plan.size)
    write_config(folder / "config.toml", _config(plan))
    with DaemonProcess(folder / "config.toml", folder / "state", folder / "daemon.log") as process:
        facts = process.wait_ready(_READY_SECONDS, lambda: None)
        with _Board(facts, scene, plan.fps) as board:
            idle, neighbour, beside = Seen(), Seen(), Seen()
            outcomes = []
            for number in range(1, plan.rounds + 1):
                board.send_labelled(_LESSONS)
                say(f"an idle board, {number} of {plan.rounds}")
                idle += board.serve_for(plan.seconds)
                say(f"beside another program, {number} of {plan.rounds}")
                with neighbours(cores()):
                    neighbour += board.serve_for(plan.seconds)
                say(f"a round, {number} of {plan.rounds}")
                beside += board.serve_beside_round()
                outcomes.append(board.status()["rounds"]["last"]["outcome"])
            engine = board.status()["inference"]["engine"]
    parts = (
        idle.served("idle"),
        neighbour.served("beside another program"),
        beside.served("beside a round"),
    )
    return Boards(parts, engine, outcomes)


def _config(plan: Plan) -> Mapping[str, Mapping[str, object]]:
    return {
        "ingest": {"bind": ["tcp://127.0.0.1:*"]},
        # All frames keep one size, so that their latencies can be compared.
        "data_slimming": {"enabled": False},
        "storage": {"min_free_bytes": 0},
        "inference": {"publish": "tcp://127.0.0.1:*"},
        "conditions": {"enabled": False},
        "metrics": {"enabled": False},
        "model": {"architecture": plan.architecture, "size": list(plan.macs_size)},
        # Every round must end with a promotion, however little it learnt: the swap is what is measured.
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


@dataclass(frozen=True)
class Seen:
    """Frames that were sent, and the masks that were received for them.

    Attributes:
        sent: Numbers of the frames.
        masks: Headers of the masks.
        beside: Number of masks that were received while a trainer ran.
    """

    sent: frozenset[int] = frozenset()
    masks: tuple[Mapping[str, Any], ...] = ()
    beside: int = 0

    def __add__(self, other: Seen) -> Seen:
        """Both."""
        return Seen(self.sent | other.sent, self.masks + other.masks, self.beside + other.beside)

    def served(self, name: str) -> Served:
        """The figures of these frames, under a name.

        Raises:
            ClientError: No masks were received.
        """
        if not self.masks:
            raise client.ClientError(f"no masks came: {name}")
        return Served(
            name=name,
            sent=len(self.sent),
            masks=len(self.masks),
            lost=len(self.sent - {mask["seq"] for mask in self.masks}),
            latency_ms=percentiles([mask["latency_s"] for mask in self.masks]),
            versions=list(dict.fromkeys(mask["model_version"] for mask in self.masks)),
            round_share=self.beside / len(self.masks),
        )


class _Board:
    """One camera that sends frames to the daemon, and one subscriber that receives its masks."""

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
        self._training = False

    def __enter__(self) -> _Board:
        """The sockets are connected already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._camera.close(linger=0)
        self._masks.close(linger=0)
        self._context.term()

    def send_labelled(self, frames: int) -> None:
        """Send labelled frames and wait for their masks, which also shows that the subscription works."""
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

    def status(self) -> Mapping[str, Any]:
        """The daemon's answer to ``status``."""
        found: Mapping[str, Any] = client.request(self._control, "status")
        return found

    def serve_for(self, seconds: float) -> Seen:
        """Send frames for some seconds while no round runs."""
        until = time.monotonic() + seconds
        return self.serve(lambda: time.monotonic() >= until)

    def serve_beside_round(self) -> Seen:
        """Start a round and send frames until two seconds after its end.

        Raises:
            ClientError: The round does not start, or has not ended after a quarter of an hour.
        """
        rounds = self.status()["rounds"]["count"]
        client.request(self._control, "train_now")
        polled, over = time.monotonic(), False

        def is_over() -> bool:
            nonlocal polled, over
            if time.monotonic() - polled >= _POLL_SECONDS:
                polled, now = time.monotonic(), self.status()["rounds"]
                over = now["running"] is None and now["count"] > rounds
                self._training = now["step"] is not None and not over
            return over

        return self.serve(is_over, fewest=round(self._fps * 2))

    def serve(self, over: Callable[[], bool], *, fewest: int = 0) -> Seen:
        """Send frames on schedule until ``over``, and ``fewest`` more, and receive the masks.

        Raises:
            ClientError: ``over`` is still false after a quarter of an hour.
        """
        started = time.monotonic()
        sent: set[int] = set()
        found: list[Mapping[str, Any]] = []
        beside = 0
        more = fewest
        while more > 0 or not over():
            more -= over()
            if time.monotonic() - started > _ROUND_SECONDS:
                raise client.ClientError(f"not over after {_ROUND_SECONDS:g} s")
            sent.add(self._send())
            due = started + len(sent) / self._fps
            while (left := due - time.monotonic()) > 0:
                if self._masks.poll(ceil(1000 * left)):
                    found.append(json.loads(self._masks.recv_multipart()[1]))
                    beside += self._training
            while self._camera.poll(0):
                self._camera.recv_multipart()
        deadline = time.monotonic() + _LAST_SECONDS
        while len(found) < len(sent) and (left := deadline - time.monotonic()) > 0:
            if self._masks.poll(ceil(1000 * left)):
                found.append(json.loads(self._masks.recv_multipart()[1]))
        return Seen(frozenset(sent), tuple(found), beside)

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
