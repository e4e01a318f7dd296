"""``bench fleet-server`` on a small root."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import pytest
from small_fleet import ROOT, TENSORS, write_root

from dance_ondevice.benchmarks.fleet.idle import measure
from dance_ondevice.benchmarks.fleet.server import lines, run


def test_measures_a_server_alone(tmp_path: Path) -> None:
    said: list[str] = []
    report = run(ROOT, dict(TENSORS), tmp_path / "state", boards=12, offers=5, say=said.append)
    assert (report.boards, report.offers) == (12, 5)
    assert report.root_values == sum(tensor.size for tensor in TENSORS.values())
    assert 0 < report.offer_bytes < 20_000
    assert report.average_cpu_ms > 0
    assert not (tmp_path / "state").exists()
    assert "12 boards ask for news" in "\n".join(lines(report))
    assert len(said) == 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_looks_at_the_idle_processes(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # the path of a socket is short
        found = measure(ROOT, write_root(tmp_path / "model"), Path(folder), 0.2)
    assert found.seconds == 0.2
    assert found.sync_seconds == 300.0
    assert 10 < found.link_mib < 100
    assert 10 < found.server_mib < 100
    report = run(ROOT, dict(TENSORS), tmp_path / "state", boards=3, offers=3, say=lambda _: None)
    page = "\n".join(lines(msgspec.structs.replace(report, idle=found)))
    assert "a board's link, idle for 0 s, a request every 300 s" in page
