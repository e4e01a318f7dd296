"""Prometheus metrics: event counters that threads touch, gauges read from snapshots, one HTTP server.

Everything hangs off one registry that is passed in; nothing is computed while a scrape waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dance_ondevice.energy.reading import EnergyReading

log = logging.getLogger(__name__)

_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SCORE_BUCKETS = tuple(round(0.05 * i, 2) for i in range(1, 21))
WORKLOADS = ("training", "inference", "ingest", "labelling")
OUTCOMES = ("promoted", "rejected", "stopped", "failed")
ROLLBACK_TRIGGERS = ("probation", "hand")


class MetricsAddressInUse(OSError):  # noqa: N818 - a state of the world
    """The metrics address is taken; the text names the key to change."""


class Instruments:
    """Counters and histograms that the service threads feed as things happen."""

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
        self._inference = Histogram(
            "dance_inference_seconds",
            "Time from taking a frame to its published mask.",
            buckets=_LATENCY_BUCKETS,
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
        self._frame_counts: dict[str, int] = {}

    def frame(self, camera: str, outcome: str) -> None:
        """Count one frame; ``outcome`` is kept, dropped, rejected or overflow."""
        self._frames.labels(camera, outcome).inc()
        self._frame_counts[outcome] = self._frame_counts.get(outcome, 0) + 1

    def score(self, camera: str, value: float) -> None:
        """Record a frame's complexity."""
        self._score.labels(camera).observe(value)

    def scale(self, camera: str, scale: float) -> None:
        """Count an accepted frame by the scale chosen for it."""
        self._scale.labels(camera, f"{scale:g}").inc()

    def ingest_seconds(self, value: float) -> None:
        """Record how long one frame took from queue to decision, seconds."""
        self._ingest.observe(value)

    def refused(self, reason: str) -> None:
        """Count a refused message by its short reason."""
        self._refused.labels(reason).inc()

    def connection_refused(self) -> None:
        """Count a connection that was turned away."""
        self._connections_refused.inc()

    def inference_seconds(self, value: float) -> None:
        """Record how long one mask took, seconds."""
        self._inference.observe(value)

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


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known of the live model, for gauges."""

    version: str
    architecture: str
    macs: int
    parameters: int
    miou: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything that gauges show; built by the supervisor from each part's own snapshot."""

    samples_labelled: int = 0
    samples_unlabelled: int = 0
    store_bytes: int = 0
    store_quota_bytes: int = 0
    store_free_bytes: int = 0
    store_min_free_bytes: int = 0
    energy: EnergyReading | None = None
    workload_joules: Mapping[str, float] = field(default_factory=dict)
    budget_joules: float = 0.0
    round_joules: float = 0.0
    inference_skipped: int = 0
    conditions: int = 0
    model: ModelFacts | None = None
    learning_joules: float = 0.0
    learning_gain: float | None = None
    learning_gain_per_kilojoule: float | None = None


class SnapshotCollector(Collector):
    """Turns the latest snapshot into metric families."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        """Nothing up front: the families depend on what has been measured."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family per fact of the snapshot."""
        now = self._snapshot()
        samples = GaugeMetricFamily("dance_samples", "Stored samples.", labels=["labelled"])
        samples.add_metric(["true"], now.samples_labelled)
        samples.add_metric(["false"], now.samples_unlabelled)
        yield samples
        yield from _store_families(now)
        yield from _energy_families(now)
        yield GaugeMetricFamily(
            "dance_training_budget_joules", "Joules that training may spend now.", value=now.budget_joules
        )
        yield GaugeMetricFamily(
            "dance_round_joules", "Gross joules of the last round.", value=now.round_joules
        )
        yield from _learning_families(now)
        yield CounterMetricFamily(
            "dance_inference_skipped",
            "Frames replaced by a newer one before inference took them.",
            value=now.inference_skipped,
        )
        yield GaugeMetricFamily(
            "dance_conditions", "Conditions that are told apart now.", value=now.conditions
        )
        if now.model is not None:
            yield from _model_families(now.model)


def _store_families(now: Snapshot) -> Iterator[Metric]:
    yield GaugeMetricFamily("dance_store_bytes", "Bytes of stored samples.", value=now.store_bytes)
    yield GaugeMetricFamily(
        "dance_store_quota_bytes", "Bytes that stored samples may take.", value=now.store_quota_bytes
    )
    yield GaugeMetricFamily(
        "dance_store_free_bytes", "Bytes free on the store's file system.", value=now.store_free_bytes
    )
    yield GaugeMetricFamily(
        "dance_store_min_free_bytes",
        "Bytes that the store leaves free on its file system.",
        value=now.store_min_free_bytes,
    )


def _energy_families(now: Snapshot) -> Iterator[Metric]:
    joules = CounterMetricFamily(
        "dance_energy_joules",
        "Energy by domain; domains do not overlap, so their sum is the board.",
        labels=["domain", "source", "method"],
    )
    if now.energy is not None:
        for domain in now.energy.domains:
            joules.add_metric([domain.domain, domain.source, domain.method], domain.joules)
    yield joules
    workload = CounterMetricFamily(
        "dance_workload_joules", "Energy above idle charged to a workload.", labels=["workload"]
    )
    for name in WORKLOADS:
        workload.add_metric([name], now.workload_joules.get(name, 0.0))
    yield workload
    yield CounterMetricFamily(
        "dance_energy_unmeasured_seconds",
        "Seconds for which the meter could not be read.",
        value=now.energy.unmeasured_seconds if now.energy else 0.0,
    )


def _learning_families(now: Snapshot) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "dance_learning_joules",
        "Gross joules that learning has cost so far, as far as the records go.",
        value=now.learning_joules,
    )
    gain = GaugeMetricFamily(
        "dance_learning_gain", "mIoU of the live model over the first model's, on the same held-out samples."
    )
    if now.learning_gain is not None:
        gain.add_metric([], now.learning_gain)
    yield gain
    rate = GaugeMetricFamily(
        "dance_learning_gain_per_kilojoule", "mIoU over the first model's that a kilojoule has bought so far."
    )
    if now.learning_gain_per_kilojoule is not None:
        rate.add_metric([], now.learning_gain_per_kilojoule)
    yield rate


def _model_families(model: ModelFacts) -> Iterator[Metric]:
    info = GaugeMetricFamily("dance_model_info", "The live model.", labels=["version", "architecture"])
    info.add_metric([model.version, model.architecture], 1)
    yield info
    yield GaugeMetricFamily(
        "dance_model_macs", "Multiply-accumulates per image at the reference size.", value=model.macs
    )
    yield GaugeMetricFamily("dance_model_parameters", "Parameters of the live model.", value=model.parameters)
    miou = GaugeMetricFamily(
        "dance_model_miou", "Mean intersection over union, a fraction of 1.", labels=["split"]
    )
    for split, value in sorted(model.miou.items()):
        miou.add_metric([split], value)
    yield miou


class MetricsServer:
    """The HTTP endpoint; owns its thread and socket from ``start`` to ``close``."""

    def __init__(self, listen: str, registry: CollectorRegistry) -> None:
        host, _, port = listen.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._registry = registry
        self._server: WSGIServer | None = None

    def start(self) -> str:
        """Bind and serve; returns the URL (the real port when 0 was asked for).

        Raises:
            MetricsAddressInUse: something else listens there.
        """
        try:
            self._server, self._thread = start_http_server(
                self._port, addr=self._host, registry=self._registry
            )
        except OSError as error:
            raise MetricsAddressInUse(
                f"cannot serve metrics on {self._host}:{self._port}: {error.strerror or error}; "
                "change metrics.listen, or set metrics.enabled = false"
            ) from error
        host = f"[{self._host}]" if ":" in self._host else self._host
        return urlsplit(f"http://{host}:{self._server.server_port}/metrics").geturl()

    def close(self) -> None:
        """Stop serving and release the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(5)
            self._server = None
