from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.promotion.bootstrap import Bounded, Comparison
from dance_ondevice.policies.promotion.erosion import Fall, carried, decode, encode
from dance_ondevice.policies.promotion.losses import falls_after
from dance_ondevice.policies.promotion.promotion import judge
from dance_ondevice.policies.promotion.rules import GateRules, Group, Scores

DAY, DUSK = "condition day", "condition dusk"
RULES = GateRules(max_class_drop=0.05, max_condition_drop=0.02)

changes = st.floats(-0.05, 0.05)
falls = st.builds(Fall, st.floats(-1.0, -1e-9), st.floats(0.0, 1.0), st.integers(1, 1000))


def compared(change: float, width: float, live: float = 0.5) -> Comparison:
    return Comparison(
        live=live, candidate=live + change, gain=Bounded(change, change - width, change + width), classes=(),
        pixels=(), samples=9, units=9, unit="block",
    )  # fmt: skip


def promoted(
    day: float, before: dict[str, Fall], road: float = 0.0, width: float = 0.0
) -> dict[str, Fall] | str:
    """What was lost after a round in which dusk gains; the reason if the candidate is refused."""
    groups = (Group(DAY, compared(day, width)), Group(DUSK, compared(0.1, width)))
    live, candidate = (
        Scores(miou=m, iou_per_class=(0.5 + r,), pixels_per_class=(5000,), samples=18)
        for m, r in ((0.4, 0.0), (0.45, road))
    )
    verdict = judge(live, candidate, RULES, False, ("road",), groups=groups, fallen_before=before)
    if verdict.outcome == "rejected":
        return verdict.reasons[0]
    return falls_after(live, candidate, RULES, ("road",), groups=groups, fallen_before=before)


@given(st.lists(st.tuples(changes, changes), max_size=40))
def test_no_number_of_promotions_takes_more_than_one_may(rounds: list[tuple[float, float]]) -> None:
    level = {DAY: 0.0, "class road": 0.0}
    highest, before = dict(level), {}
    for day, road in rounds:
        after = promoted(day, before, road)
        if isinstance(after, str):
            # Only what would lose too much is refused.
            assert min(day, road) < 0.0
            too_low = level[DAY] + day < highest[DAY] - 0.02 + 1e-9
            assert too_low or level["class road"] + road < highest["class road"] - 0.05 + 1e-9
            continue
        before = after
        for name, change in ((DAY, day), ("class road", road)):
            level[name] += change
            highest[name] = max(highest[name], level[name])
            allowed = 0.02 if name == DAY else 0.05
            assert level[name] >= highest[name] - allowed - 1e-6
            assert before.get(name, Fall()).points == pytest.approx(level[name] - highest[name], abs=1e-6)


def test_the_reason_names_what_was_lost_before() -> None:
    after = promoted(-0.015, {})
    assert after == {DAY: Fall(-0.015, 0.0, 1)}
    assert isinstance(after, dict)
    reason = promoted(-0.01, after)
    assert reason == (
        "condition day fell from mIoU 0.500 to 0.490 (-0.010, with the 1 promotion before -0.025), "
        "at most -0.020 is allowed"
    )
    assert promoted(0.0, after) == after
    assert promoted(0.015, after) == {}  # paid off


def test_a_sum_of_noise_is_no_loss() -> None:
    before = {DAY: Fall(-0.03, 0.02, 3)}
    assert isinstance(promoted(-0.01, before, width=0.02), dict)
    assert isinstance(promoted(-0.03, before, width=0.02), str)


def test_chance_alone_seldom_looks_like_a_loss() -> None:
    """200 promotions of models that differ by chance, 100 times, with bounds at 90 %."""
    dice, certain, below_one_bound, sums = random.Random(1), 0, 0, 0
    for _ in range(100):
        fall = Fall()
        for _ in range(200):
            change = dice.gauss(0.0, 0.003)
            fall = carried(fall, Bounded(change, change - 0.00384, change + 0.00384))
            sums += fall.points < 0.0
            certain += fall.is_certain()
            below_one_bound += fall.points + fall.spread < 0.0
    assert certain / sums < 0.06
    assert below_one_bound / sums > 0.3  # what the bound of a single round would say


def test_a_group_that_is_new_each_round_carries_nothing() -> None:
    groups = (
        Group("camera a, recent", compared(-0.015, 0.0), lasting=False),
        Group(DUSK, compared(0.1, 0.0)),
    )
    scores = Scores(miou=0.4, iou_per_class=(0.5,), pixels_per_class=(5000,), samples=18)
    assert falls_after(scores, scores, RULES, groups=groups) == {}
    kept = {"condition rain": Fall(-0.01, 0.0, 1)}
    assert falls_after(scores, scores, RULES, groups=groups, fallen_before=kept) == kept


@given(falls, st.floats(-1.0, 1.0), st.none() | st.floats(0.0, 1.0))
def test_a_sum_is_never_a_gain(before: Fall, change: float, above: float | None) -> None:
    after = carried(before, Bounded(change, None, None if above is None else change + above))
    assert after.points <= 0.0 <= after.spread
    if change < 0.0:
        assert after.points <= before.points
        assert after.promotions == before.promotions + 1


@pytest.mark.slow
@given(st.dictionaries(st.text(), falls))
def test_a_card_gives_back_what_it_was_given(lost: dict[str, Fall]) -> None:
    assert decode(encode(lost)) == lost


@given(st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
))  # fmt: skip
def test_whatever_a_card_says_is_read(data: Any) -> None:
    for found in (decode(data), decode({"a": data}), decode({"a": [data, data, data]})):
        assert all(-1.0 <= fall.points < 0.0 <= fall.spread for fall in found.values())
