from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.stream.data_slimming import (
    Decision,
    SlimmingRules,
    StreamState,
    decide,
    decide_all,
    initial_state,
)

scores = st.floats(min_value=0.0, max_value=1.0)
few_values = st.sampled_from([0.0, 0.25, 0.5, 1.0])
rules_strategy = st.builds(
    SlimmingRules,
    scales=st.lists(st.sampled_from([1.0, 0.75, 0.5, 0.25]), min_size=1, max_size=4, unique=True).map(tuple),
    drop_fraction=st.floats(min_value=0.0, max_value=0.9),
    loss_weighting=st.booleans(),
    warmup_frames=st.integers(min_value=0, max_value=8),
    window_frames=st.integers(min_value=1, max_value=24),
    seed=st.integers(min_value=0, max_value=2**32),
)


def stream(
    rules: SlimmingRules, frames: list[float], camera: str = "front"
) -> tuple[StreamState, list[Decision]]:
    state, decisions = initial_state(camera), []
    for score in frames:
        state, decision = decide(rules, state, score)
        decisions.append(decision)
    return state, decisions


@pytest.mark.parametrize("drop_fraction", [0.0, 0.3, 0.99])
def test_a_first_frame_is_kept_whole_and_no_rank_is_told(drop_fraction: float) -> None:
    rules = SlimmingRules(drop_fraction=drop_fraction, warmup_frames=0)
    state, first = decide(rules, initial_state("front"), 0.2)
    _, second = decide(rules, state, 0.4)

    assert (first.keep, first.scale, first.weight) == (True, 1.0, 1.0)
    assert first.reason == "kept at scale 1: it is the first frame of this camera"
    assert "of the last 1 frame of this camera" in second.reason


@given(rules_strategy, st.lists(scores | few_values, max_size=40), st.lists(scores | few_values, min_size=2))
def test_keep_scale_weight_and_quantile_never_fall_as_the_score_rises(
    rules: SlimmingRules, history: list[float], candidates: list[float]
) -> None:
    state, _ = stream(rules, history)
    decisions = [decide(rules, state, score)[1] for score in sorted(candidates)]
    for lower, higher in pairwise(decisions):
        assert lower.quantile <= higher.quantile
        assert lower.keep <= higher.keep
        assert lower.scale <= higher.scale
        assert lower.weight <= higher.weight


@given(rules_strategy, st.lists(scores | few_values, min_size=1, max_size=60))
def test_every_decision_is_possible_and_the_state_is_the_window(
    rules: SlimmingRules, history: list[float]
) -> None:
    state, decisions = stream(rules, history)
    assert state.seen == len(history)
    assert state.recent == tuple(history[-rules.window_frames :])
    assert state.ordered == tuple(sorted(state.recent))
    for decision in decisions:
        assert 0.0 <= decision.quantile < 1.0
        assert decision.scale in rules.scales
        assert 0.5 <= decision.weight <= 1.5
        assert decision.reason.startswith("kept" if decision.keep else "dropped")
        if not decision.keep:
            assert decision.scale == min(rules.scales)


STREAMS: dict[str, Callable[[random.Random], float]] = {
    "uniform": lambda draw: draw.random(),
    "skewed": lambda draw: draw.betavariate(1, 8),
    "normal": lambda draw: draw.gauss(0.4, 0.01),
    "constant": lambda _: 0.37,
    "two-valued": lambda draw: float(draw.random() < 0.45),
    "rarely different": lambda draw: float(draw.random() < 0.02),
}


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize(("drop_fraction", "seed"), [(0.3, 0), (0.3, 11), (0.6, 2), (0.05, 5)])
def test_stationary_stream_meets_the_drop_fraction_and_a_mean_weight_of_one(
    kind: str, drop_fraction: float, seed: int
) -> None:
    draw = random.Random(seed)
    rules = SlimmingRules(drop_fraction=drop_fraction, window_frames=128, seed=seed)
    _, decisions = stream(rules, [STREAMS[kind](draw) for _ in range(8000)])
    judged = decisions[rules.warmup_frames :]
    kept = [decision for decision in judged if decision.keep]
    assert 1 - len(kept) / len(judged) == pytest.approx(drop_fraction, abs=0.02)
    assert sum(decision.weight for decision in kept) / len(kept) == pytest.approx(1.0, abs=0.02)
    for scale in rules.scales:
        assert sum(decision.scale == scale for decision in kept) / len(kept) == pytest.approx(1 / 3, abs=0.03)


def test_after_a_change_of_scene_the_window_calibrates_itself_anew() -> None:
    draw = random.Random(3)
    rules = SlimmingRules(window_frames=64)
    day = [draw.uniform(0.5, 0.9) for _ in range(1000)]
    night = [draw.uniform(0.0, 0.1) for _ in range(4000)]
    _, decisions = stream(rules, day + night)
    settled = decisions[1000 + rules.window_frames :]
    assert sum(not decision.keep for decision in settled) / len(settled) == pytest.approx(0.3, abs=0.02)


@given(st.lists(scores, min_size=1, max_size=40), st.integers(0, 30))
def test_warm_up_keeps_everything_at_full_scale_and_plain_weight(history: list[float], warmup: int) -> None:
    _, decisions = stream(SlimmingRules(drop_fraction=0.95, warmup_frames=warmup), history)
    for number, decision in enumerate(decisions[:warmup], start=1):
        assert (decision.keep, decision.scale, decision.weight) == (True, 1.0, 1.0)
        assert f"warm-up, frame {number} of the first {warmup}" in decision.reason
    assert not any("warm-up" in decision.reason for decision in decisions[warmup:])


@given(rules_strategy, st.lists(few_values, max_size=40))
def test_same_seed_same_decisions(rules: SlimmingRules, history: list[float]) -> None:
    assert stream(rules, history) == stream(rules, history)


def test_seed_and_camera_change_how_ties_fall() -> None:
    frames = [0.5] * 200

    def kept(seed: int, camera: str) -> list[bool]:
        return [decision.keep for decision in stream(SlimmingRules(seed=seed), frames, camera)[1]]

    assert kept(0, "front") != kept(1, "front")
    assert kept(0, "front") != kept(0, "rear")


@given(st.lists(scores | few_values, max_size=60))
def test_drop_fraction_zero_keeps_all(history: list[float]) -> None:
    _, decisions = stream(SlimmingRules(drop_fraction=0.0, warmup_frames=2), history)
    assert all(decision.keep for decision in decisions)


def test_without_loss_weighting_every_weight_is_one() -> None:
    _, decisions = stream(SlimmingRules(loss_weighting=False), [n / 100 for n in range(100)] * 2)
    assert {decision.weight for decision in decisions} == {1.0}


def test_score_rises_through_drop_and_scales_of_a_known_window() -> None:
    state = reduce(
        lambda known, score: decide(SlimmingRules(), known, score)[0],
        [n / 100 for n in range(100)],
        initial_state("front"),
    )
    at = {score: decide(SlimmingRules(), state, score)[1] for score in (0.1, 0.4, 0.65, 0.95)}
    assert [at[score].keep for score in at] == [False, True, True, True]
    assert [at[score].scale for score in at] == [0.5, 0.5, 0.75, 1.0]
    assert at[0.95].weight == pytest.approx(0.5 + (0.95 - 0.3) / 0.7, abs=0.02)
    assert "below 30 % is dropped" in at[0.1].reason
    assert f"its detail ranks at {100 * at[0.4].quantile:.1f} %" in at[0.4].reason
    assert f"it counts {at[0.95].weight:.2f} times in training" in at[0.95].reason
    assert "of the last 100 frames of this camera" in at[0.4].reason


def test_a_shorter_window_in_new_rules_is_taken_over() -> None:
    state, _ = stream(SlimmingRules(), [n / 50 for n in range(50)])
    state, _ = decide(SlimmingRules(window_frames=4), state, 0.5)
    assert state.recent == (47 / 50, 48 / 50, 49 / 50, 0.5)
    assert state.ordered == (0.5, 47 / 50, 48 / 50, 49 / 50)


def test_defaults() -> None:
    assert SlimmingRules() == SlimmingRules(
        scales=(1.0, 0.75, 0.5),
        drop_fraction=0.3,
        loss_weighting=True,
        warmup_frames=16,
        window_frames=128,
        seed=0,
    )


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match=r"camera 'front' is (nan|inf|-inf); it must be finite"):
        decide(SlimmingRules(), initial_state("front"), score)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"scales": ()}, "scales is"),
        ({"scales": (1.5,)}, "at most 1"),
        ({"scales": (0.0,)}, "above 0"),
        ({"drop_fraction": 1.0}, "drop_fraction is 1.0"),
        ({"drop_fraction": math.nan}, "drop_fraction is nan"),
        ({"warmup_frames": -1}, "warmup_frames is -1"),
        ({"window_frames": 0}, "window_frames is 0"),
    ],
)
def test_impossible_rules_say_what_is_allowed(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SlimmingRules(**values)


@given(rules_strategy, st.lists(scores | few_values, max_size=40))
def test_a_whole_set_meets_the_drop_fraction_whatever_its_scores(
    rules: SlimmingRules, found: list[float]
) -> None:
    decisions = decide_all(rules, found)
    assert len(decisions) == len(found)
    dropped = sum(not decision.keep for decision in decisions)
    assert abs(dropped - rules.drop_fraction * len(found)) <= 0.5 + 1e-9
    kept = [decision for decision in decisions if decision.keep]
    for scale in rules.scales:
        share = sum(decision.scale == scale for decision in kept)
        assert abs(share - len(kept) / len(rules.scales)) <= 1 + 1e-9
    for first, first_decision in zip(found, decisions, strict=True):
        for second, second_decision in zip(found, decisions, strict=True):
            if first < second:
                assert first_decision.quantile < second_decision.quantile


def test_a_whole_set_with_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="is nan; it must be finite"):
        decide_all(SlimmingRules(), [0.5, math.nan])
