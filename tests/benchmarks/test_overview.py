"""The table at the top of the page of results: verdicts follow from figures."""

from __future__ import annotations

from typing import Any

import pytest

from dance_ondevice.benchmarks import overview
from dance_ondevice.benchmarks.result import About, Result, ResultError

ABOUT = About(benchmark="b", command="c", data="d", machine="m", date="2026-11-29", seed=0, version="1")


def verdicts(**bodies: dict[str, Any]) -> list[str]:
    results = {f"{name}.json".replace("_", "-"): Result(ABOUT, body) for name, body in bodies.items()}
    return [line.split(" | ")[3] for line in overview.lines(results) if line.startswith("|")][2:]


def variant(dusk: float, day: float = 0.5) -> dict[str, Any]:
    return {"final_miou": {"dusk": dusk, "day": day}, "joules": 1.0}


@pytest.mark.parametrize(
    ("none", "labels", "expected"),
    [
        (variant(0.35), variant(0.45), ["good", "good"]),
        (variant(0.35), variant(0.38), ["good", "mixed"]),
        (variant(0.301), variant(0.45, day=0.4), ["falls short", "falls short"]),
    ],
)
def test_a_dusk_is_judged_with_the_day(none: Any, labels: Any, expected: list[str]) -> None:
    both = {"frozen": variant(0.3), "naive": variant(0.4, day=0.2), "dance_none": none, "dance": labels}
    assert verdicts(camvid_stream_day_dusk={"variants": both}) == expected


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.03, "good"), (-0.03, "falls short"), (0.001, "no difference")]
)
def test_a_choice_is_judged_beside_chance(gain: float, expected: str) -> None:
    both = {"random-condition": {"miou": {"val": 0.4}}, "complexity": {"miou": {"val": 0.4 + gain}}}
    assert verdicts(slimming_choice_short_0={"variants": both}) == [expected]


@pytest.mark.parametrize(
    ("seconds", "test", "expected"), [(60, 0.5, "good"), (60, 0.4, "falls short"), (110, 0.5, "falls short")]
)
def test_slimming_is_judged_beside_training_for_less_long(seconds: float, test: float, expected: str) -> None:
    both = {
        "dense-quarter": {"train_seconds": 100, "miou": {"val": 0.5, "test": 0.45}},
        "dance+": {"train_seconds": seconds, "miou": {"val": 0.55, "test": test}},
    }
    assert verdicts(slimming_fastscnn_scratch_control_0={"variants": both}) == [expected]


def test_one_loss_is_too_many() -> None:
    body = {"kills": [{"kills": 9, "lost": 1}], "disks": [], "day": {"lost": 0}}
    assert verdicts(faults=body) == ["falls short"]
    body["kills"][0]["lost"] = 0
    assert verdicts(faults=body) == ["good"]


@pytest.mark.parametrize(("taps", "expected"), [(0.04, "good"), (0.02, "mixed"), (-0.01, "falls short")])
def test_taps_are_judged_by_whole_labels(taps: float, expected: str) -> None:
    gain = {"taps": {"30": taps}, "labelled_frames": {"10%": 0.05}}
    assert verdicts(labelling_dusk={"gain": gain}) == [expected]


@pytest.mark.parametrize(
    ("union", "own", "expected"),
    [
        ((0.35, 0.33), 0.3, "good"),
        ((0.35, 0.32), 0.3, "mixed"),
        ((0.35, 0.33), 0.29, "mixed"),
        ((0.35, 0.29), 0.3, "falls short"),
    ],
)
def test_a_fleet_is_judged_by_each_seed(union: tuple[float, float], own: float, expected: str) -> None:
    def variant(*figures: tuple[float, float, float]) -> dict[str, Any]:
        boards = [[dict(zip(("own", "union", "unseen"), each, strict=True))] for each in figures]
        return {"runs": [{"boards": each} for each in boards]}

    together = [(own, figure, 0.26) for figure in union]
    variants = {"alone": variant(*[(0.3, 0.3, 0.2)] * 2), "fleet": variant(*together)}
    assert verdicts(fleet_camvid_full={"variants": variants}) == [expected]


def test_without_results_there_is_no_table() -> None:
    assert overview.lines({}) == []


def test_a_file_of_another_shape_is_named() -> None:
    with pytest.raises(ResultError, match=r"soak\.json"):
        verdicts(soak={})
