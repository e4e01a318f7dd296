from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dance_ondevice.policies.rounds.network_slimming import (
    PastStep,
    SlimRules,
    branch_shares,
    branch_to_remove,
    mean_scale,
    next_fraction,
)

CONTEXTS = {"fine": 1.0, "middle": 4.0, "coarse": 16.0}
RULES = SlimRules(target_macs_fraction=0.5, step=0.1)

steps = st.builds(
    PastStep,
    fraction_before=st.floats(min_value=0.1, max_value=1.0),
    fraction_after=st.floats(min_value=0.1, max_value=1.0),
    outcome=st.sampled_from(["promoted", "rejected", "failed", "stopped"]),
)


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


def test_no_step_is_tried_twice_on_the_same_model() -> None:
    tried = run(["rejected"] * 12)
    slimmed = [fraction for fraction in tried if fraction < 1.0]
    assert slimmed == pytest.approx([0.9, 0.95, 0.975, 0.9875])
    # Another model, another try; and after a step that was kept, the full one again.
    assert run([*["rejected"] * 12, "promoted", "promoted", "promoted"])[12:] == pytest.approx(
        [1.0, 0.9875, 0.8875]
    )


def test_near_the_target_half_of_what_is_left_is_tried() -> None:
    tried = run([*["promoted"] * 4, "rejected", "promoted", "promoted", "rejected", "rejected", "promoted"])
    assert tried[6:] == pytest.approx([0.55, 0.5, 0.55, 0.525])


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["promoted", "rejected", "failed", "stopped"]), max_size=25))
def test_a_refused_fraction_is_never_repeated_from_the_model_that_it_was_refused_for(
    outcomes: list[str],
) -> None:
    refused: set[float] = set()
    current = 1.0
    for outcome, following in zip(outcomes, run(outcomes), strict=True):
        assert following not in refused
        if outcome == "promoted":
            current, refused = following, set()
        elif outcome != "stopped" and following < current:
            refused.add(following)


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


contexts = st.dictionaries(
    st.text(min_size=1, max_size=3), st.floats(min_value=1e-3, max_value=1e4), max_size=6
)
scales = st.floats(min_value=0.01, max_value=1.0)


@given(scales, scales, contexts)
def test_the_smaller_the_input_the_more_large_contexts_lose(
    one: float, other: float, sizes: dict[str, float]
) -> None:
    small, large = sorted((one, other))
    on_small, on_large = branch_shares(small, sizes), branch_shares(large, sizes)
    assert on_small.keys() == on_large.keys() == sizes.keys()
    assert all(small - 1e-9 <= share <= 2.0 - small + 1e-9 for share in on_small.values())
    order = sorted(sizes, key=sizes.__getitem__)
    for first, second in itertools.pairwise(order):
        assert on_small[first] <= on_small[second]
        # The lead of the larger context does not shrink with the input.
        assert on_small[second] - on_small[first] >= on_large[second] - on_large[first] - 1e-9
    if order:
        assert on_small[order[-1]] >= on_large[order[-1]]
        assert on_small[order[0]] <= on_large[order[0]] or len(set(sizes.values())) == 1


def test_shares_of_half_size_and_of_full_size_inputs() -> None:
    assert branch_shares(0.5, CONTEXTS) == pytest.approx({"fine": 0.5, "middle": 1.0, "coarse": 1.5})
    assert branch_shares(1.0, CONTEXTS) == {"fine": 1.0, "middle": 1.0, "coarse": 1.0}
    assert branch_shares(0.3, {"a": 7.0, "b": 7.0}) == {"a": 1.0, "b": 1.0}
    assert branch_shares(0.3, {}) == {}
    assert branch_shares(0.001, CONTEXTS)["fine"] == pytest.approx(0.1)


def test_the_mean_scale_of_a_histogram() -> None:
    assert mean_scale({1.0: 1, 0.5: 3}) == pytest.approx(0.625)
    assert mean_scale({0.75: 0.2}) == pytest.approx(0.75)


@pytest.mark.parametrize("wrong", [{}, {1.0: 0.0}, {0.0: 1.0}, {1.5: 1.0}, {0.5: -1.0}, {0.5: math.nan}])
def test_an_impossible_histogram_is_refused(wrong: dict[float, float]) -> None:
    with pytest.raises(ValueError, match="scale"):
        mean_scale(wrong)


@pytest.mark.parametrize(("scale", "context"), [(0.0, 1.0), (1.1, 1.0), (math.nan, 1.0), (0.5, 0.0)])
def test_impossible_scales_and_contexts_are_refused(scale: float, context: float) -> None:
    with pytest.raises(ValueError, match=r"the (scale|context)"):
        branch_shares(scale, {"a": context})


def test_a_branch_goes_when_it_is_worth_little_beside_the_others() -> None:
    assert branch_to_remove({"a": 1.0, "b": 0.2, "c": 0.1}, {}) == "c"
    assert branch_to_remove({"a": 1.0, "b": 0.8, "c": 0.5}, {}) is None
    assert branch_to_remove({"a": 1.0, "b": 0.8, "c": 0.5}, {}, floor=0.9) == "c"
    # What the data press harder has to matter more.
    assert branch_to_remove({"a": 1.0, "b": 0.3}, {"a": 0.5, "b": 1.5}) == "b"
    assert branch_to_remove({"a": 1.0, "b": 0.3}, {}) is None
    assert branch_to_remove({"only": 0.0}, {}) is None
    assert branch_to_remove({}, {}) is None


@given(
    st.dictionaries(st.sampled_from("abcd"), st.floats(min_value=0.0, max_value=10.0), min_size=1),
    st.floats(min_value=0.0, max_value=1.0),
)
def test_what_goes_is_the_least_and_a_higher_floor_spares_nothing(
    importance: dict[str, float], floor: float
) -> None:
    gone = branch_to_remove(importance, {}, floor=floor)
    if gone is not None:
        assert importance[gone] == min(importance.values())
        assert branch_to_remove(importance, {}, floor=1.0) == gone


@pytest.mark.parametrize(
    ("importance", "shares", "floor"), [({"a": -1.0}, {}, 0.5), ({"a": 1.0}, {"a": 0.0}, 0.5), ({}, {}, 2.0)]
)
def test_impossible_importances_are_refused(
    importance: dict[str, float], shares: dict[str, float], floor: float
) -> None:
    with pytest.raises(ValueError, match=r"must be 0 or more|floor is"):
        branch_to_remove(importance, shares, floor=floor)
