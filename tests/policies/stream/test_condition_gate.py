from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.stream.condition_gate import Evidence, GateRules, effective_classes, judge

RULES = GateRules()
EVEN = (100, 100, 100, 100)


def evidence(**changes: Any) -> Evidence:
    values: dict[str, Any] = {"frames": 8, "confidence": 0.8, "pixels": EVEN}
    return Evidence(**(values | changes))


def test_there_is_no_verdict_before_enough_frames() -> None:
    assert judge(RULES, evidence(frames=7), evidence(frames=7)) is None


@pytest.mark.parametrize(("confidence", "keep"), [(0.9, True), (0.8, True), (0.791, True), (0.78, False)])
def test_without_labels_confidence_decides(confidence: float, keep: bool) -> None:
    verdict = judge(RULES, evidence(confidence=confidence), evidence())
    assert verdict is not None
    assert verdict.keep == keep
    assert f"0.800 -> {confidence:.3f} on 8 frames without labels" in verdict.reason


def test_a_model_that_is_sure_of_one_class_everywhere_is_refused() -> None:
    verdict = judge(RULES, evidence(confidence=0.99, pixels=(400, 0, 0, 0)), evidence())
    assert verdict is not None
    assert not verdict.keep
    assert "1.0 classes instead of 4.0" in verdict.reason


@pytest.mark.parametrize(("miou", "keep"), [(0.41, True), (0.4, True), (0.39, False)])
def test_labels_overrule_confidence(miou: float, keep: bool) -> None:
    told = {"labelled": 3, "accuracy": 0.8, "labelled_confidence": 0.8}
    verdict = judge(RULES, evidence(confidence=0.5, miou=miou, **told), evidence(miou=0.4, **told))
    assert verdict is not None
    assert verdict.keep == keep
    assert "3 labelled frames" in verdict.reason


def test_confidence_must_not_lose_touch_with_what_is_right() -> None:
    old = evidence(labelled=4, miou=0.4, accuracy=0.7, labelled_confidence=0.7)
    new = evidence(labelled=4, miou=0.41, accuracy=0.7, labelled_confidence=0.95)
    verdict = judge(RULES, new, old)
    assert verdict is not None
    assert not verdict.keep
    assert "off by 0.250 instead of 0.000" in verdict.reason


def test_two_labelled_frames_are_not_enough_to_decide() -> None:
    told = {"labelled": 2, "accuracy": 0.1, "labelled_confidence": 0.8}
    verdict = judge(RULES, evidence(miou=0.1, **told), evidence(miou=0.9, **told))
    assert verdict is not None
    assert verdict.keep


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_effective_classes_lie_between_one_and_those_there_are(pixels: list[int]) -> None:
    present = sum(n > 0 for n in pixels)
    found = effective_classes(pixels)
    assert (found == 0.0) == (present == 0)
    if present:
        assert 1 - 1e-9 <= found <= present + 1e-9


def test_effective_classes_of_known_shares() -> None:
    assert effective_classes((5, 5, 5)) == pytest.approx(3)
    assert effective_classes((1, 3)) == pytest.approx(math.exp(0.25 * math.log(4) + 0.75 * math.log(4 / 3)))
