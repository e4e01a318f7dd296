from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dance_ondevice.policies.network_slimming import PastStep, SlimRules, next_fraction

RULES = SlimRules(target_macs_fraction=0.5, step=0.1)

steps = st.builds(
    PastStep,
    fraction_before=st.floats(min_value=0.1, max_value=1.0),
    fraction_after=st.floats(min_value=0.1, max_value=1.0),
    outcome=st.sampled_from(["promoted", "rejected", "failed", "stopped"]),
)


@settings(deadline=None)
@given(
    st.floats(min_value=0.01, max_value=1.0),
    st.floats(min_value=0.0, max_value=1.0),
    st.floats(min_value=0.01, max_value=1.2),
    st.lists(steps, max_size=8),
)
def test_never_below_the_target_nor_above_now_nor_more_than_a_step(
    target: float, step: float, current: float, recent: list[PastStep]
) -> None:
    following = next_fraction(SlimRules(target, step), current, recent)
    assert following <= current
    assert following >= min(target, current)
    assert current - following <= step + 1e-12


def test_defaults() -> None:
    assert SlimRules() == SlimRules(target_macs_fraction=0.5, step=0.1)


def run(outcomes: list[str], current: float = 1.0) -> list[float]:
    """The fraction tried in each round, the live model following every promotion."""
    recent: list[PastStep] = []
    tried = []
    for outcome in outcomes:
        following = next_fraction(RULES, current, recent)
        tried.append(following)
        recent.append(PastStep(current, following, outcome))
        current = following if outcome == "promoted" else current
    return tried


def test_promoted_steps_lead_to_the_target_and_stay_there() -> None:
    assert run(["promoted"] * 7) == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.5])


def test_after_a_rejected_step_one_round_rests_and_the_next_tries_half() -> None:
    tried = run(["promoted", "rejected", "promoted", "promoted", "promoted"])
    assert tried == pytest.approx([0.9, 0.8, 0.9, 0.85, 0.75])


@pytest.mark.parametrize("rest", ["promoted", "rejected", "failed"])
def test_the_round_that_rests_counts_however_it_ends(rest: str) -> None:
    assert run(["rejected", rest, "rejected"]) == pytest.approx([0.9, 1.0, 0.95])


def test_each_further_rejection_halves_the_step_down_to_an_eighth() -> None:
    tried = run(["rejected", "promoted"] * 6)
    assert tried[::2] == pytest.approx([0.9, 0.95, 0.975, 0.9875, 0.9875, 0.9875])
    assert tried[1::2] == [1.0] * 6


def test_a_failed_step_is_treated_like_a_rejected_one() -> None:
    assert run(["failed", "promoted", "promoted"]) == pytest.approx([0.9, 1.0, 0.95])


def test_a_stopped_round_was_never_judged_and_is_tried_again() -> None:
    assert run(["stopped", "stopped", "promoted", "stopped"]) == pytest.approx([0.9, 0.9, 0.9, 0.8])
    assert run(["rejected", "stopped", "promoted", "promoted"]) == pytest.approx([0.9, 1.0, 1.0, 0.95])


def test_the_last_step_ends_at_the_target() -> None:
    assert next_fraction(RULES, 0.56, []) == 0.5


@pytest.mark.parametrize("current", [0.513, 0.5, 0.3])
def test_at_or_as_near_to_the_target_as_whole_channels_get_nothing_is_slimmed(current: float) -> None:
    assert next_fraction(RULES, current, []) == current


def test_step_zero_never_slims() -> None:
    assert next_fraction(SlimRules(step=0.0), 0.9, []) == 0.9


@pytest.mark.parametrize("current", [0.0, -0.1, math.nan, math.inf])
def test_a_fraction_that_is_none_is_refused(current: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        next_fraction(RULES, current, [])


@pytest.mark.parametrize(
    "values",
    [
        {"target_macs_fraction": 0.0},
        {"target_macs_fraction": 1.1},
        {"step": 1.1},
        {"step": -0.1},
        {"step": math.nan},
    ],
)
def test_impossible_rules_say_what_is_allowed(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values))} is .*; give"):
        SlimRules(**values)
