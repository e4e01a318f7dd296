from __future__ import annotations

import json

import made_up
import pytest

from dance_ondevice.demo.report import Frames


def test_keys_that_other_programs_read() -> None:
    data = json.loads(json.dumps(made_up.report().to_json()))

    assert {"sent": 960, "kept": 672, "dropped": 288, "rejected": 0, "overflow": 0}.items() <= data[
        "frames"
    ].items()
    assert data["masks_received"] == 944
    assert [p["name"] for p in data["phases"]] == ["day", "dusk", "rain", "day again"]
    assert data["phases"][1]["miou_frozen"] == 0.334
    assert data["phases"][1]["miou_live"] == 0.452
    first = data["rounds"][0]
    assert (first["id"], first["outcome"], first["joules"]) == ("20261122T140001-1", "promoted", 61.2)
    assert (first["miou_before"], first["miou_after"]) == (0.402, 0.453)
    assert isinstance(first["reasons"], list)
    assert data["versions"][1] == {
        "version": "v0002",
        "macs": 95_500_000,
        "parameters": 1_020_000,
        "parent": "v0001",
        "status": "live",
        "miou_gate": 0.453,
    }
    assert {"training": 412.0, "inference": 93.0, "ingest": 21.0, "method": "modelled"}.items() <= data[
        "joules"
    ].items()
    assert (data["seed"], data["seconds"]) == (0, 201.4)


def test_scales_are_text_largest_first() -> None:
    assert list(made_up.report().to_json()["frames"]["kept_by_scale"]) == ["1", "0.75", "0.5"]


def test_a_good_run_has_no_shortcomings() -> None:
    assert made_up.report().shortcomings() == ()
    assert made_up.report().to_json()["passed"] is True


NOTHING = Frames(sent=10, kept=0, dropped=0, rejected=10, overflow=0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frames": NOTHING}, "no frame was kept"),
        ({"frames": NOTHING}, "no frame was dropped"),
        ({"masks_received": 0}, "no mask came back"),
        ({"rounds": (made_up.round_(1, "promoted"),)}, "1 of at least 2 rounds ran"),
        ({"rounds": (made_up.round_(1, "rejected"),) * 3}, "no candidate was promoted"),
        (
            {"phases": (made_up.phase("dusk", "dusk", 0.4, 0.4),)},
            "on dusk the live model (0.400 mIoU) does not beat",
        ),
        ({"daemon_status": -9}, "the daemon ended with status -9"),
    ],
)
def test_each_condition_can_fail(changes: dict[str, object], said: str) -> None:
    report = made_up.report(**changes)

    assert any(said in shortcoming for shortcoming in report.shortcomings())
    assert report.to_json()["passed"] is False


def test_only_drifted_phases_must_improve() -> None:
    worse_by_day = made_up.report(phases=(made_up.phase("day", "day", 0.6, 0.5),))

    assert worse_by_day.shortcomings() == ()
