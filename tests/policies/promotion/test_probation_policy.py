from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.promotion.bootstrap import Bounded, Comparison
from dance_ondevice.policies.promotion.probation import Evidence, ProbationRules, decide, due

RULES = ProbationRules()


def labelled(gain: Bounded, samples: int = 32) -> Comparison:
    return Comparison(
        live=0.5,
        candidate=0.5 + gain.point,
        gain=gain,
        classes=(),
        pixels=(),
        samples=samples,
        units=samples,
        unit="block",
    )


def evidence(
    comparison: Comparison | None = None,
    confidence: float = 0.0,
    agreement: float | None = 0.9,
    samples: int = 32,
    *,
    untrained_before: bool = False,
) -> Evidence:
    return Evidence(
        comparison=comparison,
        confidence=Bounded(confidence, confidence - 0.01, confidence + 0.01) if samples else None,
        agreement=agreement,
        samples=samples,
        untrained_before=untrained_before,
    )


@pytest.mark.parametrize(
    ("gain", "state"),
    [
        (Bounded(0.1, 0.05, 0.15), "passed"),
        (Bounded(-0.01, -0.02, -0.005), "passed"),  # within what is allowed
        (Bounded(-0.1, -0.2, 0.01), "passed"),  # may be luck
        (Bounded(-0.1, -0.15, -0.05), "rolled_back"),
        (Bounded(-0.1), "rolled_back"),  # nothing to draw from: the figure decides
    ],
)
def test_labels_decide_where_there_are_enough(gain: Bounded, state: str) -> None:
    decision = decide(RULES, evidence(labelled(gain)))
    assert decision.state == state
    assert "0.500 before" in decision.reason
    # Confidence that falls is no argument against labels that say otherwise.
    if state == "passed":
        assert decide(RULES, evidence(labelled(gain), confidence=-0.5)).state == "passed"


def test_few_labels_leave_it_to_the_confidence() -> None:
    few = labelled(Bounded(-0.3), samples=RULES.min_samples - 1)
    assert decide(RULES, evidence(few)).state == "passed"
    assert decide(RULES, evidence(few, confidence=-0.2)).state == "rolled_back"


@pytest.mark.parametrize(
    ("confidence", "agreement", "untrained", "state"),
    [
        (0.05, 0.5, False, "passed"),
        (-0.05, 0.5, False, "passed"),
        (-0.2, 0.9, False, "rolled_back"),
        (0.2, 0.1, False, "rolled_back"),  # sure of itself, and sees another world
        (0.2, 0.1, True, "passed"),  # there was nothing to agree with
        (0.2, None, False, "passed"),
    ],
)
def test_without_labels_confidence_and_agreement_stand_in(
    confidence: float, agreement: float | None, untrained: bool, state: str
) -> None:
    found = decide(RULES, evidence(None, confidence, agreement, untrained_before=untrained))
    assert found.state == state
    assert "mean confidence" in found.reason


@given(st.integers(0, RULES.min_samples - 1))
def test_fewer_frames_than_the_least_decide_nothing(samples: int) -> None:
    found = decide(RULES, evidence(None, -0.9, 0.0, samples))
    assert found.state == "waiting"
    assert f"{samples} of 32" in found.reason


def test_it_is_due_with_enough_frames_or_before_they_are_learnt_from() -> None:
    assert not due(RULES, 31, round_ahead=False)
    assert due(RULES, 32, round_ahead=False)
    assert not due(RULES, 7, round_ahead=True)
    assert due(RULES, 8, round_ahead=True)
    assert due(ProbationRules(samples=2), 2, round_ahead=False)
    assert not due(ProbationRules(samples=0), 1000, round_ahead=True)


@pytest.mark.parametrize("bad", [{"samples": -1}, {"min_samples": 0}, {"max_drop": 1.5}])
def test_impossible_rules_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give 0"):
        ProbationRules(**bad)
