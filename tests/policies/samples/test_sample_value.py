from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dance_ondevice.policies.samples import similarity
from dance_ondevice.policies.samples.sample_value import balanced_draw, choose, values
from dance_ondevice.policies.samples.similarity import stored_light
from dance_ondevice.policies.samples.splits import SampleInfo

DIGITS = "0123456789abcdef"
signatures = st.text(DIGITS, min_size=12, max_size=12) | st.just("")


def sample(index: int, **changes: Any) -> SampleInfo:
    return replace(
        SampleInfo(id=f"s{index:03d}", camera="front", captured_at=float(index), score=0.5, labelled=True),
        **changes,
    )


@st.composite
def stores(draw: st.DrawFn) -> list[SampleInfo]:
    rows = draw(
        st.lists(
            st.tuples(
                signatures,
                st.none() | st.floats(0, 1),
                st.floats(0, 1),
                st.sampled_from(["", "dusk", "rain"]),
                st.frozensets(st.integers(0, 3), max_size=3),
                st.sampled_from(["front", "rear"]),
            ),
            max_size=40,
        )
    )
    return [
        sample(i, signature=s, uncertainty=u, score=c, condition=w, classes=k, camera=n)
        for i, (s, u, c, w, k, n) in enumerate(rows)
    ]


@given(signatures, signatures)
def test_the_distance_is_the_sum_of_the_digits_differences(one: str, other: str) -> None:
    found = similarity.distance(similarity.code(one), similarity.code(other))
    if not one or not other:
        assert found is None
        return
    assert found == sum(abs(DIGITS.index(a) - DIGITS.index(b)) for a, b in zip(one, other, strict=True))
    assert similarity.near(similarity.code(one), similarity.code(other)) == (found <= similarity.NEAR)


@pytest.mark.parametrize(("one", "other"), [("00", "000"), ("0g", "00"), ("", "")])
def test_what_is_no_signature_resembles_nothing(one: str, other: str) -> None:
    assert similarity.distance(similarity.code(one), similarity.code(other)) is None


def test_worth_grows_with_uncertainty_complexity_and_rarity() -> None:
    usual = [sample(i, uncertainty=0.4, classes=frozenset({1}), condition="day") for i in range(9)]
    for better in (
        {"uncertainty": 0.8},
        {"score": 0.9},
        {"classes": frozenset({1, 2})},
        {"condition": "dusk"},
    ):
        special = sample(9, **{"uncertainty": 0.4, "classes": frozenset({1}), "condition": "day", **better})
        worth = values([*usual, special])
        assert worth["s009"] > max(worth[s.id] for s in usual), better


def test_an_unknown_uncertainty_counts_as_the_median() -> None:
    known = [sample(i, uncertainty=u) for i, u in enumerate((0.1, 0.4, 0.9))]
    worth = values([*known, sample(3)])
    assert worth["s003"] == worth["s001"]


@settings(max_examples=40)
@given(stores(), st.integers(0, 20), stores(), st.randoms())
def test_a_choice_has_no_near_duplicates_and_does_not_depend_on_the_order(
    store: list[SampleInfo], count: int, before: list[SampleInfo], order: random.Random
) -> None:
    worth = values(store)
    assert all(value > 0 for value in worth.values())
    chosen = choose(store, count, worth, known=before)
    by_id = {s.id: similarity.code(s.signature) for s in store}
    taken = [by_id[i] for i in chosen.ids]
    others = [similarity.code(s.signature) for s in before]
    assert len(set(chosen.ids)) == len(chosen.ids) <= count
    for index, code in enumerate(taken):
        assert not any(similarity.near(code, other) for other in [*taken[:index], *others])
    for identifier in chosen.duplicates:
        assert any(similarity.near(by_id[identifier], other) for other in [*taken, *others])
    # What was neither chosen nor a near-duplicate was left for want of room alone.
    if len(chosen.ids) < count:
        assert set(chosen.ids) | set(chosen.duplicates) == set(by_id)
    shuffled = list(store)
    order.shuffle(shuffled)
    assert choose(shuffled, count, worth, known=before) == chosen


@settings(max_examples=40)
@given(stores().filter(bool), st.integers(1, 8))
def test_a_choice_is_greedy_by_worth_times_distance(store: list[SampleInfo], count: int) -> None:
    worth = values(store)
    codes = {s.id: similarity.code(s.signature) for s in store}
    chosen = choose(store, count, worth).ids
    for index, identifier in enumerate(chosen):

        def gain(candidate: str, earlier: tuple[str, ...] = chosen[:index]) -> float:
            found = [similarity.distance(codes[candidate], codes[other]) for other in earlier]
            nearest = min((d for d in found if d is not None), default=200)
            return 0.0 if nearest <= similarity.NEAR else worth[candidate] * min(1.0, nearest / 200)

        rest = set(codes) - set(chosen[:index])
        assert gain(identifier) == pytest.approx(max(map(gain, rest)))


def test_one_scene_gives_way_to_another_that_is_worth_a_little_less() -> None:
    crowd = [sample(i, signature="0" * 11 + DIGITS[5 + i], score=0.9) for i in range(3)]
    other = sample(9, signature="f" * 12, score=0.6)
    store = [*crowd, other]
    assert choose(store, 2, values(store)).ids[1] == other.id


def test_equal_worth_without_signatures_spreads_over_time() -> None:
    store = [sample(i) for i in range(64)]
    places = sorted(int(i[1:]) for i in choose(store, 8, values(store)).ids)
    assert places == list(range(0, 64, 8))


@settings(max_examples=40)
@given(stores(), st.integers(0, 45), st.integers(), st.randoms())
def test_a_draw_is_balanced_over_cameras_conditions_and_lights(
    store: list[SampleInfo], count: int, seed: int, order: random.Random
) -> None:
    drawn = balanced_draw(store, count, seed)
    assert len(set(drawn)) == len(drawn) == min(count, len(store))
    group = {s.id: (s.camera, s.condition, stored_light(s.signature)) for s in store}
    have, got = Counter(group.values()), Counter(group[i] for i in drawn)
    # Nobody gets more than one above another who still had some.
    for one in have:
        for other in have:
            assert got[one] <= got[other] + 1 or got[other] == have[other]
    shuffled = list(store)
    order.shuffle(shuffled)
    assert balanced_draw(shuffled, count, seed) == drawn


def test_a_rare_class_is_drawn_more_often() -> None:
    store = [sample(i, classes=frozenset({0} if i else {0, 7})) for i in range(40)]
    hits = sum("s000" in balanced_draw(store, 8, seed) for seed in range(200))
    assert hits > 80  # a fifth of 200 if all were alike


def test_a_dark_sample_is_worth_no_less_for_showing_less_detail() -> None:
    day = [sample(i, signature="0" * 11 + "a", score=0.5 + i / 100) for i in range(9)]
    night = [sample(10 + i, signature="0" * 11 + "1", score=0.01 + i / 1000) for i in range(9)]
    worth = values([*day, *night])
    assert [worth[s.id] for s in night] == pytest.approx([worth[s.id] for s in day])
