from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.stream.data_slimming import Choice, Decision, SlimmingRules, decide
from dance_ondevice.policies.stream.slimming_set import decide_all
from dance_ondevice.policies.stream.stream_state import FrameFigures, Kind, StreamState, initial_state

scores = st.floats(min_value=0.0, max_value=1.0)
few_values = st.sampled_from([0.0, 0.25, 0.5, 1.0])
rules_strategy = st.builds(
    SlimmingRules,
    scales=st.lists(st.sampled_from([1.0, 0.75, 0.5, 0.25]), min_size=1, max_size=4, unique=True).map(tuple),
    drop_fraction=st.floats(min_value=0.0, max_value=0.9),
    choice=st.sampled_from(["random", "complexity"]),
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
        state, decision = decide(rules, state, FrameFigures(score=score))
        decisions.append(decision)
    return state, decisions


def only_kind(state: StreamState) -> Kind:
    (kind,) = state.kinds.values()
    return kind


@pytest.mark.parametrize("drop_fraction", [0.0, 0.3, 0.99])
def test_a_first_frame_is_kept_whole_and_no_rank_is_told(drop_fraction: float) -> None:
    rules = SlimmingRules(drop_fraction=drop_fraction, warmup_frames=0)
    state, first = decide(rules, initial_state("front"), FrameFigures(score=0.2))
    _, second = decide(replace(rules, drop_fraction=0.0), state, FrameFigures(score=0.4))

    assert (first.keep, first.scale, first.weight) == (True, 1.0, 1.0)
    assert first.reason == "kept at scale 1: it is the first frame of its kind (light1)"
    assert "of the last 1 frame of its kind (light1)" in second.reason


@given(rules_strategy, st.lists(scores | few_values, max_size=40), st.lists(scores | few_values, min_size=2))
def test_keep_scale_and_quantile_never_fall_as_the_score_rises(
    rules: SlimmingRules, history: list[float], candidates: list[float]
) -> None:
    state, _ = stream(rules, history)
    decisions = [decide(rules, state, FrameFigures(score=score))[1] for score in sorted(candidates)]
    for lower, higher in pairwise(decisions):
        assert lower.quantile <= higher.quantile
        assert lower.keep <= higher.keep
        assert lower.scale <= higher.scale


@given(rules_strategy, st.lists(scores | few_values, min_size=1, max_size=60))
def test_every_decision_is_possible_and_the_state_is_the_window(
    rules: SlimmingRules, history: list[float]
) -> None:
    state, decisions = stream(rules, history)
    kind = only_kind(state)
    assert state.seen == kind.seen == len(history)
    assert kind.recent == tuple(history[-rules.window_frames :])
    assert kind.ordered == tuple(sorted(kind.recent))
    for decision in decisions:
        assert 0.0 <= decision.quantile < 1.0
        assert decision.scale in rules.scales
        assert 0.5 <= decision.weight <= 2.0
        assert decision.outcome in ("kept", "dropped")
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
@pytest.mark.parametrize("choice", ["random", "complexity"])
@pytest.mark.parametrize(
    ("drop_fraction", "seed"),
    [
        (0.3, 0),
        (0.6, 2),
        pytest.param(0.3, 11, marks=pytest.mark.slow),
        pytest.param(0.05, 5, marks=pytest.mark.slow),
    ],
)
def test_stationary_stream_meets_the_drop_fraction_and_a_mean_weight_of_one(
    kind: str, drop_fraction: float, seed: int, choice: Choice
) -> None:
    draw = random.Random(seed)
    rules = SlimmingRules(drop_fraction=drop_fraction, choice=choice, window_frames=128, seed=seed)
    _, decisions = stream(rules, [STREAMS[kind](draw) for _ in range(2000)])
    judged = decisions[rules.warmup_frames :]
    kept = [decision for decision in judged if decision.keep]
    assert 1 - len(kept) / len(judged) == pytest.approx(drop_fraction, abs=0.02)
    assert sum(decision.weight for decision in kept) / len(kept) == pytest.approx(1.0, abs=0.06)
    for scale in rules.scales:
        assert sum(decision.scale == scale for decision in kept) / len(kept) == pytest.approx(1 / 3, abs=0.07)


def test_by_complexity_the_simple_go_more_often_and_what_is_kept_of_them_counts_more() -> None:
    draw = random.Random(3)
    _, decisions = stream(SlimmingRules(choice="complexity"), [draw.random() for _ in range(6000)])
    judged = decisions[64:]

    def dropped(low: float, high: float) -> float:
        among = [decision.keep for decision in judged if low <= decision.quantile < high]
        return 1 - sum(among) / len(among)

    assert dropped(0.0, 0.2) > 0.4
    assert 0.25 < dropped(0.4, 0.6) < 0.35
    assert dropped(0.8, 1.0) < 0.12
    kept = sorted((d.quantile, d.weight) for d in judged if d.keep)
    assert all(lower[1] >= higher[1] for lower, higher in pairwise(kept))
    assert kept[0][1] == pytest.approx(0.7 / 0.4, abs=0.02)
    assert kept[-1][1] == pytest.approx(0.7, abs=0.02)


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
        assert f"warm-up, frame {number} of the first {warmup} of its kind (light1)" in decision.reason
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
    rules = SlimmingRules(loss_weighting=False, choice="complexity")
    _, decisions = stream(rules, [n / 100 for n in range(100)] * 2)
    assert {decision.weight for decision in decisions} == {1.0}


def test_score_rises_through_the_scales_of_a_known_window() -> None:
    state, _ = stream(SlimmingRules(drop_fraction=0.0), [n / 100 for n in range(100)])
    rules = SlimmingRules(drop_fraction=0.0)
    at = {score: decide(rules, state, FrameFigures(score=score))[1] for score in (0.1, 0.4, 0.65, 0.95)}
    assert [at[score].scale for score in at] == [0.5, 0.75, 0.75, 1.0]
    assert f"its detail ranks at {100 * at[0.4].quantile:.1f} % of the last 100 frames" in at[0.4].reason
    assert "of its kind (light1); it counts 1.00 times in training" in at[0.4].reason


def test_a_shorter_window_in_new_rules_is_taken_over() -> None:
    state, _ = stream(SlimmingRules(), [n / 50 for n in range(50)])
    state, _ = decide(SlimmingRules(window_frames=4), state, FrameFigures(score=0.5))
    assert only_kind(state).recent == (47 / 50, 48 / 50, 49 / 50, 0.5)
    assert only_kind(state).ordered == (0.5, 47 / 50, 48 / 50, 49 / 50)


def test_defaults() -> None:
    assert SlimmingRules() == SlimmingRules(
        scales=(1.0, 0.75, 0.5),
        drop_fraction=0.3,
        choice="random",
        loss_weighting=True,
        warmup_frames=16,
        window_frames=128,
        screen=True,
        seed=0,
    )


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match=r"camera 'front' is (nan|inf|-inf); it must be finite"):
        decide(SlimmingRules(), initial_state("front"), FrameFigures(score=score))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"scales": ()}, "scales is"),
        ({"scales": (1.5,)}, "at most 1"),
        ({"scales": (0.0,)}, "above 0"),
        ({"drop_fraction": 1.0}, "drop_fraction is 1.0"),
        ({"drop_fraction": math.nan}, "drop_fraction is nan"),
        ({"choice": "loss"}, "choice is 'loss'; give one of random, complexity"),
        ({"warmup_frames": -1}, "warmup_frames is -1"),
        ({"window_frames": 0}, "window_frames is 0"),
    ],
)
def test_impossible_rules_say_what_is_allowed(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SlimmingRules(**values)


@given(rules_strategy, st.lists(st.tuples(scores | few_values, st.sampled_from([0.1, 0.9])), max_size=40))
def test_a_whole_set_meets_the_drop_fraction_in_each_light_whatever_its_scores(
    rules: SlimmingRules, found: list[tuple[float, float]]
) -> None:
    frames = [FrameFigures(score=score, luma=luma) for score, luma in found]
    decisions = decide_all(rules, frames)
    assert len(decisions) == len(found)
    dropped = sum(not decision.keep for decision in decisions)
    assert abs(dropped - rules.drop_fraction * len(found)) <= 0.5 + 1e-9
    kept = [decision for decision in decisions if decision.keep]
    for scale in rules.scales:
        share = sum(decision.scale == scale for decision in kept)
        assert abs(share - len(kept) / len(rules.scales)) <= 1 + 1e-9
    for luma in {luma for _, luma in found}:
        alike = [(f.score, d) for f, d in zip(frames, decisions, strict=True) if f.luma == luma]
        gone = sum(not decision.keep for _, decision in alike)
        assert abs(gone - rules.drop_fraction * len(alike)) <= 1 + 1e-9
        for (first, first_decision), (second, second_decision) in product(alike, alike):
            if first < second:
                assert first_decision.quantile < second_decision.quantile


def test_a_whole_set_with_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="is nan; it must be finite"):
        decide_all(SlimmingRules(), [FrameFigures(score=0.5), FrameFigures(score=math.nan)])
