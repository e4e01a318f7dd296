"""Reads the daemon's metrics over HTTP, as Prometheus does."""

from __future__ import annotations

import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_MAX_BYTES = 8 << 20


@dataclass(frozen=True)
class Value:
    """One value of a metric with its labels."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


@dataclass(frozen=True)
class Scrape:
    """All values of one scrape, without histogram buckets."""

    values: tuple[Value, ...] = ()

    def total(self, name: str, **labels: str) -> float:
        """The sum of all values of a metric that have these labels; 0.0 if there are none."""
        return sum(v.value for v in self.values if v.name == name and set(labels.items()) <= set(v.labels))

    def label(self, name: str, label: str) -> Sequence[str]:
        """The distinct values of a metric's label, sorted."""
        return list(dict.fromkeys(dict(v.labels)[label] for v in self.values if v.name == name))

    def flat(self) -> dict[str, float]:
        """The values of the daemon's own metrics by ``name{label="value"}``."""
        return {_key(v): v.value for v in self.values if v.name.startswith("dance_")}


def fetch(url: str, timeout: float = 60.0) -> Scrape:
    """Scrape ``url`` (http only).

    Raises:
        OSError: The server does not answer.
        ValueError: The answer is not in the Prometheus text format, or the URL is not http.
    """
    if not url.startswith("http://"):
        raise ValueError(f"metrics are served over http, not at {url}")
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return parse(answer.read(_MAX_BYTES).decode("utf-8"))


def parse(text: str) -> Scrape:
    """Read the Prometheus text format.

    Raises:
        ValueError: The text is not in this format.
    """
    return Scrape(
        tuple(
            Value(sample.name, tuple(sorted(sample.labels.items())), float(sample.value))
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if not sample.name.endswith("_bucket")
        )
    )


def _key(value: Value) -> str:
    labels = ",".join(f'{name}="{text}"' for name, text in value.labels)
    return f"{value.name}{{{labels}}}" if labels else value.name
