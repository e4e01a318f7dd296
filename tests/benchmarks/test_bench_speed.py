"""The benches of speed, with real daemons and counts so small that only their books can be checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dance_ondevice.benchmarks import tables
from dance_ondevice.benchmarks.ingest.baseline import receiver
from dance_ondevice.benchmarks.ingest.run import percentiles
from dance_ondevice.benchmarks.ingest.sending import Cameras
from dance_ondevice.benchmarks.predict.run import Seen
from dance_ondevice.daemon.control.client import ClientError


def bench(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dance_ondevice", "bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_percentiles_are_milliseconds() -> None:
    assert percentiles([0.001, 0.002, 0.003]) == pytest.approx({"50": 2.0, "99": 2.98, "100": 3.0})


@pytest.mark.slow
def test_a_receiver_answers_every_frame_of_every_camera() -> None:
    with receiver(0) as loop, Cameras(loop.endpoint, ["a", "b"], [b"one", b"two"], 4) as cameras:
        for fps in (None, 200.0):
            tally = cameras.stream(20, fps)
            assert (tally.sent, tally.answered, len(tally.latencies)) == (40, 40, 40)
            assert min(tally.latencies) > 0
        assert tally.seconds >= 19 / 200


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_bench_ingest_accounts_for_every_frame(tmp_path: Path) -> None:
    file = tmp_path / "ingest.json"
    bench("ingest", "--frames", "40", "--load-seconds", "0.5", "--folder", str(tmp_path), "--out", str(file))
    report = json.loads(file.read_bytes())
    for stretch in report["stretches"]:
        found = sum(stretch[key] for key in ("kept", "dropped", "refused", "overflow"))
        assert stretch["sent"] == found
        assert stretch["refused"] == 0
    names = [stretch["name"] for stretch in report["stretches"]]
    assert names[:2] == ["full speed", "nearly all dropped"]
    assert names[-1] == "4 cameras at 30 fps"
    drops = report["stretches"][1]
    assert 0 < drops["dropped"] < drops["kept"]  # the first frames of a light are all kept
    assert report["ratio"] == pytest.approx(report["stretches"][0]["rate"] / report["baseline_rate"])
    assert report["limits"]["conv_gflops"] > 0
    assert (tmp_path / "ingest-latency.svg").is_file()
    assert "| full speed | 40 |" in tables.render(tmp_path)


def test_what_was_seen_beside_several_rounds_counts_as_one() -> None:
    def seen(numbers: range, latency: float, version: str) -> Seen:
        masks = tuple({"seq": n, "latency_s": latency, "model_version": version} for n in numbers)
        return Seen(frozenset([*numbers, numbers.stop]), masks, beside=len(masks))

    both = (Seen() + seen(range(30), 0.03, "v1") + seen(range(31, 41), 0.09, "v2")).served("beside a round")
    assert (both.sent, both.masks, both.lost, both.round_share) == (42, 40, 2, 1.0)
    assert both.versions == ["v1", "v2"]
    assert both.latency_ms["50"] == pytest.approx(30)
    assert both.latency_ms["99"] == pytest.approx(90)
    with pytest.raises(ClientError, match="no masks came"):
        Seen().served("idle")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_bench_predict_serves_through_a_round(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    file = tmp_path / "predict.json"
    sizes = {
        "--passes": 2,
        "--threads": 1,
        "--rounds": 1,
        "--seconds": 2,
        "--fps": 2,
        "--epochs": 1,
        "--size": "96x64",
    }
    bench("predict", *(str(each) for size in sizes.items() for each in size), "--out", str(file))
    report = json.loads(file.read_bytes())
    ways = [(way["name"], way["model"], way["scale"]) for way in report["engines"]]
    assert ways[0] == ("torch, as trained", "dense", 1.0)
    assert {("torch", "slimmed", 0.75), ("onnxruntime", "dense", 1.0)} <= set(ways)
    assert min(way["agreement"] for way in report["engines"]) > 0.9
    for board in ("idle", "beside_neighbour"):
        assert report[board]["sent"] >= report[board]["masks"] > 0
    (outcome,) = report["round_outcomes"]
    assert outcome in ("promoted", "rejected")
    assert len(report["beside_round"]["versions"]) == (2 if outcome == "promoted" else 1)
    page = tables.render(tmp_path)
    assert "Inference, fastscnn" in page
    assert "| beside another program |" in page
