"""Metrics of a fleet: those of a board, and those that its server serves by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = [
    "EXAMPLE_BOARD",
    "EXAMPLE_SERVER",
    "FleetFacts",
    "ServerCollector",
    "ServerFacts",
    "board_families",
]


@dataclass(frozen=True, kw_only=True)
class FleetFacts:
    """The board's part in its fleet."""

    version: int
    published: int
    heard_at: float
    troubled: bool
    sent: int
    received: int
    judged: Mapping[str, int]
    gain: float


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """What the fleet's server tells of itself; counts are those since its start."""

    boards: int
    waiting: int
    published: int
    published_at: float
    making_seconds: float
    offers: Mapping[str, int]
    versions: Mapping[str, int]
    bytes: Mapping[str, int]
    refused: Mapping[str, int]


#: Values in which every series occurs, for the page of metrics.
EXAMPLE_BOARD = FleetFacts(
    version=0,
    published=0,
    heard_at=0.0,
    troubled=False,
    sent=0,
    received=0,
    judged={"taken": 0, "refused": 0, "scored": 0, "failed": 0},
    gain=0.0,
)
EXAMPLE_SERVER = ServerFacts(
    boards=0,
    waiting=0,
    published=0,
    published_at=0.0,
    making_seconds=0.0,
    offers={"admitted": 0, "refused": 0},
    versions={"published": 0, "declined": 0},
    bytes={"in": 0, "out": 0},
    refused={"request": 0, "rate": 0, "disk": 0, "double": 0, "key": 0},
)


def board_families(now: FleetFacts) -> Iterator[Metric]:
    """One family per fact of a board."""
    yield from _gauges(
        ("dance_fleet_version", "Version of the fleet that the live model goes back to.", now.version),
        ("dance_fleet_newest_version", "Version that the fleet's server published last.", now.published),
        (
            "dance_fleet_heard_timestamp_seconds",
            "When the fleet's server was heard of last, in seconds since 1970; 0: never.",
            now.heard_at,
        ),
        ("dance_fleet_trouble", "1 while something keeps the board from its fleet, else 0.", now.troubled),
        (
            "dance_fleet_gain",
            "mIoU that the fleet's last version brought on this board's frames.",
            now.gain,
        ),
    )
    yield from _counters(
        ("dance_fleet_judged", "Versions of the fleet that this board judged.", "outcome", now.judged),
        (
            "dance_fleet_bytes",
            "Bytes of offers and versions that this board exchanged.",
            "direction",
            {"out": now.sent, "in": now.received},
        ),
    )


class ServerCollector(Collector):
    """The server's metrics, read from its facts at each scrape."""

    def __init__(self, facts: Callable[[], ServerFacts]) -> None:
        self._facts = facts

    def describe(self) -> list[Metric]:
        """Nothing in advance."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family per fact of the server."""
        now = self._facts()
        yield from _gauges(
            ("dance_fleet_boards", "Server: boards that were heard of within a week.", now.boards),
            ("dance_fleet_offers_waiting", "Server: offers that wait for a version.", now.waiting),
            ("dance_fleet_published_version", "Server: number of the newest version.", now.published),
            (
                "dance_fleet_published_timestamp_seconds",
                "Server: when the newest version was made, in seconds since 1970.",
                now.published_at,
            ),
            ("dance_fleet_making_seconds", "Server: seconds of the last averaging.", now.making_seconds),
        )
        yield from _counters(
            ("dance_fleet_offers", "Server: offers that arrived.", "outcome", now.offers),
            ("dance_fleet_versions", "Server: versions that were decided.", "outcome", now.versions),
            ("dance_fleet_server_bytes", "Server: bytes of offers and versions.", "direction", now.bytes),
            ("dance_fleet_refused", "Server: requests that were not served.", "reason", now.refused),
        )


def _gauges(*facts: tuple[str, str, float]) -> Iterator[Metric]:
    for name, about, value in facts:
        yield GaugeMetricFamily(name, about, value=float(value))


def _counters(*facts: tuple[str, str, str, Mapping[str, int]]) -> Iterator[Metric]:
    for name, about, label, counts in facts:
        family = CounterMetricFamily(name, about, labels=[label])
        for value, count in counts.items():
            family.add_metric([value], count)
        yield family
