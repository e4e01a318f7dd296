from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from dance_ondevice.demo import scrape


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    registry = CollectorRegistry()
    frames = Counter("dance_frames", "Frames.", ["camera", "outcome"], registry=registry)
    frames.labels("a", "kept").inc(3)
    frames.labels("b", "kept").inc(4)
    frames.labels("a", "dropped").inc(2)
    Histogram("dance_ingest_seconds", "Time.", registry=registry).observe(0.5)
    Counter("other", "Not ours.", registry=registry).inc()
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


def test_totals_over_labels(served: str) -> None:
    found = scrape.fetch(served)

    assert found.total("dance_frames_total", outcome="kept") == 7
    assert found.total("dance_frames_total", outcome="kept", camera="b") == 4
    assert found.total("dance_frames_total", outcome="rejected") == 0
    assert sorted(found.label("dance_frames_total", "camera")) == ["a", "b"]


def test_flat_holds_own_metrics_without_buckets(served: str) -> None:
    flat = scrape.fetch(served).flat()

    assert flat['dance_frames_total{camera="a",outcome="dropped"}'] == 2
    assert flat["dance_ingest_seconds_sum"] == 0.5
    assert not any("bucket" in name or name.startswith("other") for name in flat)


def test_only_http_is_fetched() -> None:
    with pytest.raises(ValueError, match="over http"):
        scrape.fetch("file:///etc/hostname")
