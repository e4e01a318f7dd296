"""Prometheus metrics that are read from snapshots: nothing is computed while a scrape waits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dance_ondevice.daemon.metrics.fleet_gauges import FleetFacts, board_families
from dance_ondevice.daemon.metrics.instruments import WORKLOADS
from dance_ondevice.energy.reading import EnergyReading
from dance_ondevice.policies.rounds.next_step import REASONS
from dance_ondevice.policies.samples.wanted import WantedLabels


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Facts about the live model, for gauges."""

    version: str
    architecture: str
    macs: int
    parameters: int
    untrained: bool = False
    miou: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The values of all gauges; the supervisor builds it from each part's own snapshot."""

    samples_labelled: int = 0
    samples_unlabelled: int = 0
    labels_stored: int = 0
    samples_unreadable: int = 0
    rounds_bytes: int = 0
    last_frames: Mapping[str, float] = field(default_factory=dict)
    store_bytes: int = 0
    store_quota_bytes: int = 0
    store_free_bytes: int = 0
    store_min_free_bytes: int = 0
    energy: EnergyReading | None = None
    workload_joules: Mapping[str, float] = field(default_factory=dict)
    budget_joules: float = 0.0
    round_joules: float = 0.0
    inference_skipped: int = 0
    drop_fraction: float = 0.0
    conditions: int = 0
    model: ModelFacts | None = None
    fleet: FleetFacts | None = None
    learning_blocked: Collection[str] = ()
    labels_wanted: Collection[WantedLabels] = ()
    learning_joules: float = 0.0
    learning_gain: float | None = None
    learning_gain_per_kilojoule: float | None = None


class SnapshotCollector(Collector):
    """Turns the latest snapshot into metric families."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        """Nothing in advance: the families depend on what has been measured."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family per fact of the snapshot."""
        now = self._snapshot()
        samples = GaugeMetricFamily("dance_samples", "Stored samples.", labels=["labelled"])
        samples.add_metric(["true"], now.samples_labelled)
        samples.add_metric(["false"], now.samples_unlabelled)
        yield samples
        yield CounterMetricFamily(
            "dance_labels_stored",
            "Labels that were stored, new ones and those in place of others.",
            value=now.labels_stored,
        )
        yield GaugeMetricFamily(
            "dance_samples_unreadable",
            "Stored samples whose image or label cannot be read; rounds leave them out.",
            value=now.samples_unreadable,
        )
        last = GaugeMetricFamily(
            "dance_camera_last_frame_timestamp_seconds",
            "When the camera's last good frame came, in seconds since 1970 by this board's clock.",
            labels=["camera"],
        )
        for camera, at in sorted(now.last_frames.items()):
            last.add_metric([camera], at)
        yield last
        yield from _store_families(now)
        yield GaugeMetricFamily(
            "dance_rounds_bytes", "Bytes of the folders that rounds have left.", value=now.rounds_bytes
        )
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
            "dance_drop_fraction",
            "Share of the frames of each condition and light that is to be dropped.",
            value=now.drop_fraction,
        )
        yield GaugeMetricFamily(
            "dance_conditions", "Conditions that are distinguished now.", value=now.conditions
        )
        if now.model is not None:
            yield from _model_families(now.model)
        if now.fleet is not None:
            yield from board_families(now.fleet)


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
    watts = GaugeMetricFamily(
        "dance_energy_watts",
        "Power that the meter saw last, by domain; absent while it sees none.",
        labels=["domain", "source", "method"],
    )
    if now.energy is not None:
        for domain in now.energy.domains:
            if domain.watts is not None:
                watts.add_metric([domain.domain, domain.source, domain.method], domain.watts)
    yield watts
    workload = CounterMetricFamily(
        "dance_workload_joules",
        "Energy above idle charged to a workload; the sum is what the daemon used above idle.",
        labels=["workload"],
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
    blocked = GaugeMetricFamily(
        "dance_learning_blocked",
        "1 for each reason for which no round starts now, else 0.",
        labels=["reason"],
    )
    for reason in REASONS:
        blocked.add_metric([reason], float(reason in now.learning_blocked))
    yield blocked
    wanted = GaugeMetricFamily(
        "dance_labels_wanted",
        "Frames that a person is asked to label, by camera and condition; absent while none are.",
        labels=["camera", "condition"],
    )
    for (camera, condition), frames in _frames_wanted(now.labels_wanted).items():
        wanted.add_metric([camera, condition], frames)
    yield wanted
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


def _frames_wanted(wanted: Collection[WantedLabels]) -> dict[tuple[str, str], int]:
    """The largest request for each camera and condition: one label answers several."""
    found: dict[tuple[str, str], int] = {}
    for each in wanted:
        place = each.camera, each.condition
        found[place] = max(found.get(place, 0), each.frames)
    return found


def _model_families(model: ModelFacts) -> Iterator[Metric]:
    info = GaugeMetricFamily("dance_model_info", "The live model.", labels=["version", "architecture"])
    info.add_metric([model.version, model.architecture], 1)
    yield info
    yield GaugeMetricFamily(
        "dance_model_macs", "Multiply-accumulates per image at the reference size.", value=model.macs
    )
    yield GaugeMetricFamily("dance_model_parameters", "Parameters of the live model.", value=model.parameters)
    yield GaugeMetricFamily(
        "dance_model_untrained",
        "1 while the live model has not learnt anything, so that its masks mean nothing; else 0.",
        value=float(model.untrained),
    )
    miou = GaugeMetricFamily(
        "dance_model_miou", "Mean intersection over union, a fraction of 1.", labels=["split"]
    )
    for split, value in sorted(model.miou.items()):
        miou.add_metric([split], value)
    yield miou
