"""``bench fleet-server`` on a small root."""

from __future__ import annotations

from pathlib import Path

from small_fleet import ROOT, TENSORS

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
