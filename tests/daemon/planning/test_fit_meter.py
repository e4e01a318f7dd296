"""What a round costs is foretold by rounds that the same meter measured."""

from __future__ import annotations

from dance_ondevice.daemon.planning.fit import costs


def test_rounds_that_another_meter_measured_foretell_nothing() -> None:
    rows = [
        {"steps": 10, "gross_joules": 385.0, "step_pixels": None, "meter": "rapl:package-0"},
        {"steps": 10, "gross_joules": 666.0, "step_pixels": None, "meter": "rapl:psys"},
        {"steps": 20, "gross_joules": 1300.0, "step_pixels": None, "meter": None},
    ]
    assert costs(rows, 1.0, "rapl:psys") == [(10.0, 666.0), (20.0, 1300.0)]
    assert len(costs(rows, 1.0)) == 3
