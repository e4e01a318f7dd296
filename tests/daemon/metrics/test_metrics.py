from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import urllib.request

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dance_ondevice.daemon.metrics.gauges import ModelFacts, Snapshot, SnapshotCollector
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.metrics.server import (
    REQUEST_SECONDS,
    WORKERS,
    MetricsAddressInUse,
    MetricsServer,
    _Visits,
)
from dance_ondevice.energy.reading import DomainEnergy, EnergyReading

SNAPSHOT = Snapshot(
    samples_labelled=3,
    samples_unlabelled=4,
    store_bytes=5000,
    store_quota_bytes=9000,
    store_free_bytes=70_000,
    store_min_free_bytes=600,
    energy=EnergyReading((DomainEnergy("board", 12.5, "model", "modelled", 4.25),), 1.5),
    workload_joules={"training": 7.0, "inference": 2.0, "ingest": 1.0, "service": 2.5},
    budget_joules=100.0,
    round_joules=6.0,
    inference_skipped=9,
    model=ModelFacts(
        version="v0002",
        architecture="fastscnn",
        macs=10,
        parameters=20,
        miou={"gate": 0.5, "frozen": 0.25, "prequential": 0.75},
    ),
)

#: The contract: names, and the labels that tools select by.
CONTRACT = {
    "dance_frames_total": {"camera", "outcome"},
    "dance_frame_score_bucket": {"camera", "le"},
    "dance_ingest_seconds_bucket": {"le"},
    "dance_samples": {"labelled"},
    "dance_store_bytes": set(),
    "dance_store_quota_bytes": set(),
    "dance_store_free_bytes": set(),
    "dance_store_min_free_bytes": set(),
    "dance_energy_joules_total": {"domain", "source", "method"},
    "dance_energy_watts": {"domain", "source", "method"},
    "dance_workload_joules_total": {"workload"},
    "dance_energy_unmeasured_seconds_total": set(),
    "dance_training_budget_joules": set(),
    "dance_rounds_total": {"outcome"},
    "dance_round_joules": set(),
    "dance_model_info": {"version", "architecture"},
    "dance_model_macs": set(),
    "dance_model_parameters": set(),
    "dance_model_miou": {"split"},
    "dance_inference_seconds_bucket": {"le"},
    "dance_frame_cpu_seconds_bucket": {"stage", "le"},
    "dance_masks_repeated_total": set(),
    "dance_inference_skipped_total": set(),
    "dance_inference_failed_total": set(),
}


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    instruments = Instruments(registry)
    instruments.frame("front", "kept")
    instruments.frame("front", "dropped")
    instruments.score("front", 0.3)
    instruments.scale("front", 0.5)
    instruments.ingest_seconds(0.002)
    instruments.inference_seconds(0.02)
    instruments.refused("header")
    instruments.round_finished("promoted")
    registry.register(SnapshotCollector(lambda: SNAPSHOT))
    return registry


def samples(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(registry).decode()
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_every_metric_of_the_contract_is_there_with_its_labels(registry: CollectorRegistry) -> None:
    found: dict[str, set[str]] = {}
    for name, labels in samples(registry):
        found.setdefault(name, set()).update(label for label, _ in labels)
    assert {name: found.get(name) for name in CONTRACT} == CONTRACT


def test_values_come_from_the_snapshot_and_the_events(registry: CollectorRegistry) -> None:
    values = samples(registry)
    assert values["dance_frames_total", (("camera", "front"), ("outcome", "kept"))] == 1
    assert values["dance_frames_scaled_total", (("camera", "front"), ("scale", "0.5"))] == 1
    assert values["dance_samples", (("labelled", "true"),)] == 3
    assert values["dance_samples", (("labelled", "false"),)] == 4
    assert [values[f"dance_store_{name}bytes", ()] for name in ("", "quota_", "free_", "min_free_")] == [
        *(5000, 9000, 70_000, 600)
    ]
    energy = (("domain", "board"), ("method", "modelled"), ("source", "model"))
    assert values["dance_energy_joules_total", energy] == 12.5
    assert values["dance_workload_joules_total", (("workload", "training"),)] == 7
    workloads = [value for (name, _), value in values.items() if name == "dance_workload_joules_total"]
    assert sum(workloads) == sum(SNAPSHOT.workload_joules.values())
    board = (("domain", "board"), ("method", "modelled"), ("source", "model"))
    assert values["dance_energy_watts", board] == 4.25
    assert values["dance_model_miou", (("split", "prequential"),)] == 0.75
    assert values["dance_rounds_total", (("outcome", "promoted"),)] == 1
    assert values["dance_rounds_total", (("outcome", "failed"),)] == 0


def test_without_a_model_or_a_meter_the_families_are_still_valid() -> None:
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(Snapshot))
    values = samples(registry)
    assert values["dance_samples", (("labelled", "true"),)] == 0
    assert not [name for name, _ in values if name == "dance_model_info"]


def test_promtool_finds_nothing_to_say(registry: CollectorRegistry) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=generate_latest(registry), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_the_server_serves_and_frees_its_port(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A board without a network starts at once: nobody is asked for a name.
    monkeypatch.setattr(socket, "getfqdn", lambda *_: pytest.fail("DNS is asked"))
    server = MetricsServer("127.0.0.1:0", registry)
    url = server.start()
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            body = response.read()
            assert b"dance_frames_total" in body
        # As monitors of addresses ask.
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5) as response:
            assert (response.read(), int(response.headers["Content-Length"])) == (b"", len(body))
        address = url.removeprefix("http://").removesuffix("/metrics")
        with pytest.raises(MetricsAddressInUse, match=r"metrics\.listen"):
            MetricsServer(address, registry).start()
    finally:
        server.close()
    again = MetricsServer(address, registry)
    assert again.start() == url
    again.close()


def test_half_requests_neither_hold_up_a_scrape_nor_make_threads() -> None:
    registry = CollectorRegistry()
    Instruments(registry)
    ended = threading.Semaphore(0)
    server = MetricsServer("127.0.0.1:0", registry, spent=lambda _: ended.release())
    url = server.start()
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    half = []
    try:
        for _ in range(10 * WORKERS):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            connection.sendall(b"GET /metrics HTTP/1.1\r\n")
            half.append(connection)
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b"dance_rounds_total" in answer.read()
        # All but a handful have ended, long before their time.
        for _ in range(9 * WORKERS + 1):
            assert ended.acquire(timeout=10)
    finally:
        for connection in half:
            connection.close()
        server.close()


def test_a_visitor_has_a_time_limit_and_a_request_keeps_its_thread() -> None:
    now = 0.0
    visits = _Visits(lambda: now)
    pairs = [socket.socketpair() for _ in range(WORKERS + 1)]
    ours, theirs = zip(*pairs, strict=True)
    try:
        assert all(visits.enter(each) for each in ours[:-1])
        for each in ours[:-1]:
            visits.asked(each)
        assert not visits.enter(ours[-1])
        visits.leave(ours[0])
        assert visits.enter(ours[-1])
        now = REQUEST_SECONDS
        visits.end_late()
        assert theirs[-1].recv(1) == b""
        theirs[1].settimeout(0)
        with pytest.raises(BlockingIOError):
            theirs[1].recv(1)
    finally:
        for each in (*ours, *theirs):
            each.close()


def test_a_forgotten_camera_takes_its_series_along_and_leaves_the_counts() -> None:
    registry = CollectorRegistry()
    instruments = Instruments(registry)
    for camera in ("front", "run-1"):
        instruments.frame(camera, "kept")
        instruments.score(camera, 0.5)
        instruments.scale(camera, 0.75)
        instruments.drift_alarm(camera, "luma")
    instruments.forget("run-1")
    instruments.forget("never seen")
    text = generate_latest(registry).decode()
    assert "run-1" not in text
    assert 'camera="front"' in text
    assert instruments.frame_counts() == {"kept": 2}
