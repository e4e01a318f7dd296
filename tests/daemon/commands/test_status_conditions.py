"""What ``dance-ondevice status`` tells a person of conditions."""

from __future__ import annotations

import pytest

from dance_ondevice.daemon.commands.status import _lines

REPORT = {
    "enabled": True,
    "cameras": {"front": "c1"},
    "known": {"base": "own", "c1": "probation"},
    "drift_alarms": 3,
    "note": "",
}


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        (REPORT, "front in c1; known: base (own), c1 (probation); drift alarms: 3"),
        (REPORT | {"cameras": {}}, "no camera yet; known: base (own), c1 (probation); drift alarms: 3"),
        (REPORT | {"note": "the model has no batch norm"}, "the model has no batch norm"),
        (None, "-"),
    ],
)
def test_conditions_take_one_line(conditions: dict[str, object] | None, told: str) -> None:
    assert dict(_lines({"conditions": conditions}))["conditions"] == told


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"published": None}, "version 1, none heard of"),
        ({"published": 2}, "version 1, 2 published"),
        ({"published": 2, "trouble": "the disk: full"}, "version 1, 2 published; the disk: full"),
        ({"published": 2, "quiet": True}, "version 1, 2 published; not heard of lately: `dance"),
    ],
)
def test_a_fleet_takes_one_line(facts: dict[str, object], told: str) -> None:
    assert dict(_lines({"fleet": {"version": 1, **facts}}))["fleet"].startswith(told)
    assert "fleet" not in dict(_lines({"fleet": None}))
