"""Writes docs/metrics.md from the metrics: ``python -m dance_ondevice.daemon.metrics.page``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from dance_ondevice.daemon.metrics.fleet_gauges import EXAMPLE_BOARD, EXAMPLE_SERVER, ServerCollector
from dance_ondevice.daemon.metrics.gauges import ModelFacts, Snapshot, SnapshotCollector
from dance_ondevice.daemon.metrics.instruments import (
    OUTCOMES,
    ROLLBACK_TRIGGERS,
    WORKLOADS,
    Instruments,
)
from dance_ondevice.energy.reading import DomainEnergy, EnergyReading
from dance_ondevice.policies.rounds.next_step import REASONS
from dance_ondevice.policies.samples.wanted import WantedLabels
from dance_ondevice.policies.stream.data_slimming import Decision
from dance_ondevice.policies.stream.drift import SIGNALS

_HEAD = """# Metrics

Served in the Prometheus text format at `http://<metrics.listen>/metrics`; `[metrics]` in
[configuration.md](configuration.md) says where and whether. `deploy/prometheus/` has a scrape configuration
and alert rules, `deploy/grafana/` a dashboard; they use these names alone. How to set them up:
[Prometheus, Grafana and alerts](guides/prometheus.md).

Counters and histograms start from zero with the daemon. A histogram `x` is read through `x_bucket` (with the
label `le`), `x_sum` and `x_count`. Joules whose `method` is `modelled` are estimates from CPU time; `counter`
and `integrated` ones come from hardware. The model's metrics are missing until there is a live model, and
each split of `dance_model_miou` until it has been measured. Those of a fleet are there where
`fleet.kit` is set; `fleet serve` serves those whose meaning begins with "Server".

This page is made from the code: `python -m dance_ondevice.daemon.metrics.page > docs/metrics.md`.
"""

#: Labels of metrics and their possible values.
LABELS = {
    "architecture": "the live model's architecture, or the factory that builds it",
    "camera": "the name that the sender gave",
    "socket": "the listening socket: ingest, masks, control, console or fleet",
    "condition": "`base`, `c1`, ...; `light1`, ... where inference or `conditions.enabled` is off",
    "direction": "`in` or `out`, as this process sees it",
    "domain": "the part of the board that a meter sees; domains do not overlap",
    "labelled": "`true` or `false`",
    "method": "`counter`, `integrated` or `modelled`",
    "outcome": "of frames `kept`, `dropped`, `rejected` or `overflow`; by condition `kept`, `dropped`, "
    "`repeated` (a picture that is stored already) or `damaged` (its lower part is flat); of rounds "
    + ", ".join(f"`{outcome}`" for outcome in OUTCOMES[:-1])
    + f" or `{OUTCOMES[-1]}`; of a fleet's versions on a board `taken`, `refused`, `scored` (for the "
    "others) or `failed`; of offers `admitted` or `refused`; of versions on the server "
    "`published` or `declined`",
    "reason": "why a message was refused, as a short word (`store_full`, `store_failed`, `header`, ...); "
    "why no round starts: "
    + ", ".join(f"`{reason}`" for reason in REASONS)
    + "; why a fleet's server did not "
    "serve: `request`, `rate`, `disk`, `double` where two boards use one kit, or `key` for connections of a "
    "key that it does not know",
    "scale": "the factor by which a frame is stored, trained on and inferred at",
    "signal": "what has changed: " + ", ".join(f"`{name}`" for name in SIGNALS),
    "source": "the meter",
    "split": "`gate`: held-out samples, the live model; `frozen`: the same samples, the first model; "
    "`prequential`: labelled frames as they came, before they were learnt from",
    "stage": "`measure` (check, decode, score), `decide`, `encode` (for the store), `store` (its share of a "
    "group's files and rows) or `inference` (decode, segment, publish); messages and waiting are in none",
    "trigger": "what took a version back: " + " or ".join(f"`{trigger}`" for trigger in ROLLBACK_TRIGGERS),
    "version": "the live model's version",
    "workload": ", ".join(f"`{workload}`" for workload in WORKLOADS[:-1]) + f" or `{WORKLOADS[-1]}`",
}


@dataclass(frozen=True, kw_only=True)
class MetricFacts:
    """One metric as a query names it.

    Attributes:
        name: With ``_total`` for a counter, without a suffix for a histogram.
        kind: ``counter``, ``gauge`` or ``histogram``.
        labels: Names of its own labels, sorted.
        help: One sentence.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str

    def series(self) -> dict[str, frozenset[str]]:
        """The names that a query may use, with the labels that each has."""
        own = frozenset(self.labels)
        if self.kind != "histogram":
            return {self.name: own}
        return {f"{self.name}_bucket": own | {"le"}, f"{self.name}_sum": own, f"{self.name}_count": own}


def catalogue() -> list[MetricFacts]:
    """Every metric, in the order of the page."""
    return sorted(_collected(), key=lambda facts: facts.name)


def page() -> str:
    """The whole of docs/metrics.md."""
    lines = [_HEAD, "| metric | type | labels | meaning |", "|---|---|---|---|"]
    for facts in catalogue():
        labels = ", ".join(f"`{label}`" for label in facts.labels)
        lines.append(f"| `{facts.name}` | {facts.kind} | {labels} | {facts.help} |")
    lines += ["", "| label | values |", "|---|---|"]
    lines += [f"| `{label}` | {meaning} |" for label, meaning in LABELS.items()]
    return "\n".join(lines) + "\n"


def _collected() -> Iterator[MetricFacts]:
    for metric in _example().collect():
        own = [s for s in metric.samples if not s.name.endswith("_created")]
        yield MetricFacts(
            name=f"{metric.name}_total" if metric.type == "counter" else metric.name,
            kind=metric.type,
            labels=tuple(sorted({label for sample in own for label in sample.labels} - {"le"})),
            help=metric.documentation,
        )


def _example() -> CollectorRegistry:
    """A registry in which every metric has a sample, since only samples show their labels."""
    registry = CollectorRegistry()
    instruments = Instruments(registry)
    instruments.frame("front", "kept")
    decision = Decision(outcome="kept", scale=1.0, weight=1.0, quantile=0.0, condition="base", reason="")
    instruments.decided("front", decision)
    instruments.standing("front", 0)
    instruments.score("front", 0.0)
    instruments.scale("front", 1.0)
    instruments.refused("header")
    instruments.connections_closed("ingest", 1)
    instruments.drift_alarm("front", "luma")
    instruments.dated("front", 3600.0)
    instruments.sender_changed("front")
    snapshot = Snapshot(
        last_frames={"front": 0.0},
        energy=EnergyReading((DomainEnergy("board", 0.0, "model", "modelled", 0.0),), 0.0),
        learning_gain=0.0,
        labels_wanted=(WantedLabels(camera="front", condition="base", frames=1, why=""),),
        learning_gain_per_kilojoule=0.0,
        fleet=EXAMPLE_BOARD,
        model=ModelFacts(version="v0001", architecture="fastscnn", macs=0, parameters=0, miou={"gate": 0.0}),
    )
    registry.register(SnapshotCollector(lambda: snapshot))
    registry.register(ServerCollector(lambda: EXAMPLE_SERVER))
    return registry


if __name__ == "__main__":
    sys.stdout.write(page())
