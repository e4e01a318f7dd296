from __future__ import annotations

import json

import made_up_demo as made_up
import pytest

from dance_ondevice.demo.reporting.report import Frames
from dance_ondevice.demo.reporting.report_file import as_json
from dance_ondevice.demo.reporting.verdict import described, judge
from dance_ondevice.policies.promotion.bootstrap import Bounded


def test_keys_that_other_programs_read() -> None:
    data = json.loads(json.dumps(as_json(made_up.report())))

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
    assert list(as_json(made_up.report())["frames"]["kept_by_scale"]) == ["1", "0.75", "0.5"]


def test_a_good_run_has_no_shortcomings() -> None:
    assert judge(made_up.report()).passed
    assert as_json(made_up.report())["passed"] is True


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

    assert any(said in shortcoming for shortcoming in judge(report).failures + judge(report).shortfalls)
    assert as_json(report)["passed"] is False


def test_only_drifted_phases_must_improve() -> None:
    worse_by_day = made_up.report(phases=(made_up.phase("day", "day", 0.6, 0.5),))

    assert judge(worse_by_day).passed


@pytest.mark.parametrize(
    ("frozen", "live", "macs", "says"),
    [
        (0.40, 0.50, -0.1, "+0.100 mIoU, more than noise (+0.080 to +0.120), with 10 % fewer MACs"),
        (0.50, 0.49, 0.0, "-0.010 mIoU: as good as frozen, within the noise of 20 frames (-0.030 to +0.010)"),
        (
            0.56,
            0.53,
            -0.2,
            "20 % fewer MACs, 0.030 mIoU less than frozen on day again, more than noise (-0.050 to -0.010): "
            "the price of slimming",
        ),
        (0.56, 0.53, 0.0, "as many MACs, 0.030 mIoU less than frozen on day again, more than noise"),
    ],
)
def test_a_bar_says_what_it_means(frozen: float, live: float, macs: float, says: str) -> None:
    assert described(made_up.phase("day again", "day", frozen, live, macs_change=macs), 20).startswith(says)


def test_a_phase_that_ended_before_a_promotion_is_no_gain_within_noise() -> None:
    same = made_up.phase("dusk", "dusk", 0.4, 0.4, gain=Bounded(0.0, 0.0, 0.0))
    assert described(same, 20) == "still the first model: no candidate was promoted before its end"


def test_only_broken_machinery_is_a_failure() -> None:
    short = judge(
        made_up.report(rounds=(), phases=(made_up.phase("dusk", "dusk", 0.4, 0.4, rounds=0, capped=True),))
    )
    broken = judge(made_up.report(rounds=(made_up.round_(1, "failed", reasons=("killed by signal 9",)),) * 2))

    assert short.failures == ()
    assert short.shortfalls == (
        "0 of at least 2 rounds ran",
        "no candidate was promoted: the live model is still the first one",
    )
    assert "--max-seconds 960" in short.advice
    assert short.notes == ("time was over before all rounds were done: dusk had 0 of 2",)
    assert broken.failures == ("every round failed, the last one because: killed by signal 9",)


def test_a_round_that_failed_is_told() -> None:
    assert judge(made_up.report(epochs=5)).notes == (
        "time was enough for 5 of 12 epochs of pretraining the first model",
        "1 of 3 rounds failed: killed by signal 9",
    )
