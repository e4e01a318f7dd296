"""Instruments: counters and histograms that the daemon's threads update as events happen."""

from __future__ import annotations

import contextlib
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dance_ondevice.daemon.metrics.cameras import AHEAD_SECONDS, CameraTimes
from dance_ondevice.daemon.metrics.refusals import Refusals
from dance_ondevice.policies.stream.data_slimming import Decision
from dance_ondevice.policies.stream.drift import SIGNALS

_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_CPU_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

#: What is done to a frame, in this order; one that is dropped is not encoded nor stored.
STAGES = ("measure", "decide", "encode", "store", "inference")

_SCORE_BUCKETS = tuple(round(0.05 * i, 2) for i in range(1, 21))

WORKLOADS = ("training", "inference", "ingest", "labelling", "service")

FRAME_OUTCOMES = ("kept", "dropped", "rejected", "overflow")

OUTCOMES = ("promoted", "rejected", "stopped", "failed")

ROLLBACK_TRIGGERS = ("probation", "hand")


class Instruments:
    """Counters and histograms that the daemon's threads update."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._frames = Counter(
            "dance_frames",
            "Frames received, by camera and what became of them.",
            ["camera", "outcome"],
            registry=registry,
        )
        self._score = Histogram(
            "dance_frame_score",
            "Spatial complexity of accepted frames, 0 to 1.",
            ["camera"],
            buckets=_SCORE_BUCKETS,
            registry=registry,
        )
        self._condition_frames = Counter(
            "dance_condition_frames",
            "Frames stored or left out, by the condition that they were taken in; by light where conditions "
            "are not told apart.",
            ["camera", "condition", "outcome"],
            registry=registry,
        )
        self._repeated = Gauge(
            "dance_camera_repeated_frames",
            "Latest frames in a row that repeated a picture which was kept.",
            ["camera"],
            registry=registry,
        )
        self._scale = Counter(
            "dance_frames_scaled",
            "Accepted frames by the scale that the policy chose for them.",
            ["camera", "scale"],
            registry=registry,
        )
        self._ingest = Histogram(
            "dance_ingest_seconds",
            "Time from taking a frame off the queue to its decision.",
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self._refused = Counter(
            "dance_refused", "Messages refused, by reason.", ["reason"], registry=registry
        )
        self._connections_refused = Counter(
            "dance_connections_refused",
            "Connections turned away because their key is not known.",
            registry=registry,
        )
        self._connections_closed = Counter(
            "dance_connections_closed",
            "Connections closed because more were open than descriptors allow, by socket.",
            ["socket"],
            registry=registry,
        )
        self._inference = Histogram(
            "dance_inference_seconds",
            "Time from taking a frame to its published mask.",
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        cpu = Histogram(
            "dance_frame_cpu_seconds",
            "CPU time for one frame, by stage, of the thread that works on it; in ingest of every 16th step.",
            ["stage"],
            buckets=_CPU_BUCKETS,
            registry=registry,
        )
        self._cpu = {stage: cpu.labels(stage) for stage in STAGES}
        self._masks_repeated = Counter(
            "dance_masks_repeated",
            "Masks that were published again for a frame that shows the same.",
            registry=registry,
        )
        self._inference_failed = Counter(
            "dance_inference_failed",
            "Frames that the live model could not answer.",
            registry=registry,
        )
        self._rounds = Counter("dance_rounds", "Training rounds, by outcome.", ["outcome"], registry=registry)
        for outcome in OUTCOMES:
            self._rounds.labels(outcome)
        self._rollbacks = Counter(
            "dance_rollbacks",
            "Versions that were taken back after their promotion, by who did it.",
            ["trigger"],
            registry=registry,
        )
        for trigger in ROLLBACK_TRIGGERS:
            self._rollbacks.labels(trigger)
        self._drift_alarms = Counter(
            "dance_drift_alarms",
            "Times that a signal of a camera's stream was found to have changed.",
            ["camera", "signal"],
            registry=registry,
        )
        self._condition_switches = Counter(
            "dance_condition_switches",
            "Times that a camera went from one condition to another.",
            registry=registry,
        )
        self._ahead = Counter(
            "dance_frames_ahead",
            "Frames dated more than a minute ahead of this board's clock.",
            ["camera"],
            registry=registry,
        )
        self._sender_changes = Counter(
            "dance_camera_sender_changes",
            "Times that a camera's frames came from an earlier sender again: several send under its name.",
            ["camera"],
            registry=registry,
        )
        #: When each camera sent its last frame.
        self.cameras = CameraTimes()
        #: Which frames were refused of late.
        self.refusals = Refusals()
        #: Series by metric and labels: to look one up takes longer than to count.
        self._series: dict[tuple[object, ...], Any] = {}
        self._frame_counts: dict[str, int] = {}
        self._scales: set[str] = set()
        self._by_condition: dict[tuple[str, str, str], int] = {}
        self._standing: dict[str, int] = {}

    def frame(self, camera: str, outcome: str) -> None:
        """Count one frame; ``outcome`` is kept, dropped, rejected or overflow."""
        self._of(self._frames, camera, outcome).inc()
        self._frame_counts[outcome] = self._frame_counts.get(outcome, 0) + 1
        if camera and outcome != "rejected":
            self.cameras.seen(camera)

    def dated(self, camera: str, ahead: float) -> None:
        """Take note of by how many seconds a frame was dated ahead of its arrival, negative for behind."""
        if ahead > AHEAD_SECONDS:
            self._ahead.labels(camera).inc()
        self.cameras.dated(camera, ahead)

    def sender_changed(self, camera: str) -> None:
        """Count that frames of a camera came from an earlier sender again."""
        self._sender_changes.labels(camera).inc()
        self.cameras.sender_changed(camera)

    def forget(self, camera: str) -> None:
        """Drop the time series of a camera that was removed; its next frame starts new ones."""
        self.cameras.forget(camera)
        self._standing.pop(camera, None)
        conditions = [key for key in tuple(self._by_condition) if key[0] == camera]
        for key in conditions:
            del self._by_condition[key]
        label_sets: list[tuple[Counter | Gauge | Histogram, tuple[str, ...]]] = [
            *((self._condition_frames, key) for key in conditions),
            (self._repeated, (camera,)),
            *((self._frames, (camera, outcome)) for outcome in FRAME_OUTCOMES),
            *((self._scale, (camera, scale)) for scale in tuple(self._scales)),
            *((self._drift_alarms, (camera, signal)) for signal in SIGNALS),
            (self._score, (camera,)),
            (self._ahead, (camera,)),
            (self._sender_changes, (camera,)),
        ]
        for metric, labels in label_sets:
            with contextlib.suppress(KeyError):  # never counted
                metric.remove(*labels)
        self._series.clear()

    def _of(self, metric: Counter | Gauge | Histogram, *labels: str) -> Any:
        """The series of a metric with these labels (written by the ingest thread alone)."""
        key = (metric, *labels)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = metric.labels(*labels)
        return found

    def decided(self, camera: str, decision: Decision) -> None:
        """Count one frame by its condition, once it is stored or left out."""
        key = (camera, decision.condition, decision.outcome)
        self._of(self._condition_frames, *key).inc()
        self._by_condition[key] = self._by_condition.get(key, 0) + 1

    def standing(self, camera: str, frames: int) -> None:
        """Take note that so many frames in a row, the last one included, have repeated what was kept."""
        if self._standing.get(camera) != frames:
            self._of(self._repeated, camera).set(frames)
            self._standing[camera] = frames

    def score(self, camera: str, value: float) -> None:
        """Record a frame's complexity."""
        self._of(self._score, camera).observe(value)

    def scale(self, camera: str, scale: float) -> None:
        """Count an accepted frame by the scale chosen for it."""
        text = f"{scale:g}"
        self._scales.add(text)
        self._of(self._scale, camera, text).inc()

    def ingest_seconds(self, value: float) -> None:
        """Record how long one frame took from queue to decision, seconds."""
        self._ingest.observe(value)

    def refused(self, reason: str) -> None:
        """Count a refused message by its short reason."""
        self._refused.labels(reason).inc()

    def refused_frame(self, camera: str, text: str) -> None:
        """Take note of what the sender of a refused frame was told; both are as the sender sent them."""
        self.refusals.refused(camera, text)

    def connection_refused(self) -> None:
        """Count a connection that was refused."""
        self._connections_refused.inc()

    def connections_closed(self, socket: str, count: int) -> None:
        """Count connections that were closed because too many were open."""
        self._connections_closed.labels(socket).inc(count)

    def inference_seconds(self, value: float) -> None:
        """Record how long one mask took, seconds."""
        self._inference.observe(value)

    def frame_cpu(self, stage: str, seconds: float, frames: int = 1) -> None:
        """Record the CPU seconds of a stage for some frames, shared evenly; ``stage`` is one of STAGES."""
        for _ in range(frames):
            self._cpu[stage].observe(seconds / frames)

    def mask_repeated(self) -> None:
        """Count a mask that was published again."""
        self._masks_repeated.inc()

    def inference_failed(self) -> None:
        """Count a frame that inference took and could not answer."""
        self._inference_failed.inc()

    def round_finished(self, outcome: str) -> None:
        """Count one round."""
        self._rounds.labels(outcome).inc()

    def rolled_back(self, trigger: str) -> None:
        """Count one rollback; ``trigger`` is probation or hand."""
        self._rollbacks.labels(trigger).inc()

    def drift_alarm(self, camera: str, signal: str) -> None:
        """Count one alarm of a drift detector."""
        self._drift_alarms.labels(camera, signal).inc()

    def condition_switch(self) -> None:
        """Count one switch of a camera to another condition."""
        self._condition_switches.inc()

    def frame_counts(self) -> dict[str, int]:
        """Frames by outcome since the daemon started (written by the ingest thread alone)."""
        return dict(self._frame_counts)

    def condition_counts(self) -> dict[tuple[str, str, str], int]:
        """Frames by camera, condition and outcome since the daemon started (written by the ingest thread)."""
        return dict(self._by_condition)

    def standing_still(self) -> dict[str, int]:
        """By camera, latest frames in a row that repeated what was kept (written by the ingest thread)."""
        return dict(self._standing)
