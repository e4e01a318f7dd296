from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.stream.keep_odds import Odds, draw

ODDS = st.builds(Odds, drop_fraction=st.floats(0, 0.95), by_complexity=st.booleans())
RANKS = [(i + 0.5) / 200 for i in range(200)]


@given(ODDS)
def test_as_many_are_dropped_as_asked_for_and_the_kept_ones_stand_for_all(odds: Odds) -> None:
    chances = [odds.drop_chance(q) for q in RANKS]
    assert all(0 <= chance < 1 for chance in chances)
    assert sum(chances) / len(chances) == pytest.approx(odds.drop_fraction, abs=1e-4)
    # Weighed by the inverse of its chance to be kept, each rank counts the same in expectation.
    counted = [(1 - chance) * odds.weight(q) for q, chance in zip(RANKS, chances, strict=True)]
    assert counted == pytest.approx([1 - odds.drop_fraction] * len(RANKS))
    assert max(odds.weight(q) for q in RANKS) <= 2 + 1e-9


@given(ODDS, st.lists(st.sampled_from((1.0, 0.75, 0.5, 0.25)), min_size=1, max_size=4, unique=True))
def test_each_scale_gets_an_equal_share_of_the_kept_and_the_largest_the_most_complex(
    odds: Odds, scales: list[float]
) -> None:
    given_scales = [odds.scale(q, scales) for q in RANKS]
    assert given_scales == sorted(given_scales)
    kept = dict.fromkeys(scales, 0.0)
    for q, scale in zip(RANKS, given_scales, strict=True):
        kept[scale] += (1 - odds.drop_chance(q)) / len(RANKS)
    assert list(kept.values()) == pytest.approx(
        [(1 - odds.drop_fraction) / len(scales)] * len(scales), abs=0.01
    )


@given(st.integers(0, 2**31), st.integers(0, 10_000), st.text(max_size=5))
def test_a_draw_depends_on_its_arguments_alone(seed: int, number: int, what: str) -> None:
    assert 0 <= draw(seed, number, what) < 1
    assert draw(seed, number, what) == draw(seed, number, what)


def test_draws_are_spread_evenly() -> None:
    drawn = [draw(0, number, "keep") for number in range(4000)]
    assert sum(d < 0.3 for d in drawn) / len(drawn) == pytest.approx(0.3, abs=0.03)
