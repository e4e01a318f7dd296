"""The server's metrics: who is there, what arrived, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dance_ondevice.daemon.fleet.desk import Desk, Tallies
from dance_ondevice.daemon.fleet.server import Maker
from dance_ondevice.daemon.fleet.shelf import Shelf

__all__ = ["ServerCollector"]


class ServerCollector(Collector):
    """Reads counts of the server's thread; a scrape may see one a moment before another."""

    def __init__(self, shelf: Shelf, desk: Desk, maker: Maker) -> None:
        self._shelf = shelf
        self._desk = desk
        self._maker = maker

    def describe(self) -> list[Metric]:
        """Nothing in advance."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family per fact."""
        tallies: Tallies = self._desk.tallies
        yield GaugeMetricFamily(
            "dance_fleet_boards", "Boards that were heard of within a week.", value=self._desk.seen_lately()
        )
        yield GaugeMetricFamily(
            "dance_fleet_offers_waiting",
            "Offers that no version was made of.",
            value=len(self._shelf.waiting()),
        )
        yield GaugeMetricFamily(
            "dance_fleet_published_version",
            "Number of the newest version.",
            value=self._shelf.published.number,
        )
        yield GaugeMetricFamily(
            "dance_fleet_published_timestamp_seconds",
            "When the newest version was made, in seconds since 1970 by the server's clock.",
            value=self._shelf.published.made_at,
        )
        yield GaugeMetricFamily(
            "dance_fleet_making_seconds", "Seconds that the last averaging took.", value=self._maker.seconds
        )
        for name, about, label, counts in (
            ("dance_fleet_offers", "Offers that arrived.", "outcome", tallies.offers),
            ("dance_fleet_versions", "Versions that volunteers have scored.", "outcome", tallies.versions),
            ("dance_fleet_server_bytes", "Bytes of offers and releases.", "direction", tallies.bytes),
            ("dance_fleet_refused", "Requests that were not served.", "reason", tallies.refused),
        ):
            family = CounterMetricFamily(name, about, labels=[label])
            for value, count in counts.items():
                family.add_metric([value], count)
            yield family
