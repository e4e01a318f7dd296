from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.budget.round_size import (
    Cost,
    RoundSize,
    Wanted,
    fit_cost,
    fit_round,
    pixel_share,
)

PIXELS = {1.0: 300.0, 0.75: 300.0, 0.5: 100.0}
WANTED = Wanted(
    new=128, rehearsal=128, epochs=4, batch_size=8, min_steps=40, pixels=PIXELS, scales=(1.0, 0.75, 0.5)
)
COST = Cost(100.0, 10.0)


@given(
    st.builds(Cost, st.floats(0, 1e4), st.floats(0, 1e3)),
    st.floats(-1e3, 1e6),
    st.integers(1, 300),
    st.integers(0, 300),
    st.integers(1, 16),
)
def test_what_fits_is_no_dearer_than_the_joules_nor_larger_than_wanted(
    cost: Cost, joules: float, new: int, rehearsal: int, batch: int
) -> None:
    wanted = Wanted(
        new=new,
        rehearsal=rehearsal,
        epochs=2,
        batch_size=batch,
        min_steps=40,
        pixels=PIXELS,
        scales=(1.0, 0.5),
    )
    size = fit_round(cost, joules, wanted)
    if isinstance(size, str):
        # Even the smallest is too dear.
        least = cost.overhead_joules + 40 * cost.step_joules * pixel_share(PIXELS, 0.5)
        assert least > joules * (1 - 1e-9) - cost.step_joules * 1e-6
        return
    assert size.joules <= joules + 1e-6 * abs(joules)
    assert 40 <= size.steps <= wanted.steps(rehearsal)
    assert 1 <= size.new <= new
    assert size.rehearsal <= rehearsal
    # No sample is counted as trained on that no step has a place for.
    assert size.new + size.rehearsal <= max(size.steps * batch, 1)
    assert (size.reason == "") == (
        (size.steps, size.new, size.rehearsal, size.max_scale)
        == (wanted.steps(rehearsal), new, rehearsal, 1.0)
    )


def test_a_round_gives_way_in_an_order() -> None:
    def fit(joules: float) -> RoundSize:
        size = fit_round(COST, joules, WANTED)
        assert isinstance(size, RoundSize), size
        return size

    whole = fit(1380.0)  # 100 J and 128 steps of 10 J
    assert (whole.steps, whole.rehearsal, whole.max_scale, whole.reason) == (128, 128, 1.0, "")
    fewer = fit(800.0)
    assert (fewer.steps, fewer.rehearsal, fewer.max_scale) == (70, 128, 1.0)
    assert fewer.reason == "cut to fit the joules: 70 of 128 steps"
    less_rehearsal = fit(600.0)
    assert (less_rehearsal.steps, less_rehearsal.rehearsal, less_rehearsal.max_scale) == (50, 64, 1.0)
    smaller = fit(500.0)
    assert (smaller.steps, smaller.rehearsal, smaller.max_scale) == (49, 64, 0.75)
    # At scale 0.5 a step takes (300 / 4 + 300 / 2.25 + 100) / 700 = 0.44 of its joules.
    smallest = fit(300.0)
    assert (smallest.steps, smallest.rehearsal, smallest.max_scale) == (45, 64, 0.5)
    assert smallest.joules <= 300.0
    none = fit_round(COST, 200.0, WANTED)
    assert isinstance(none, str)
    assert "200 J are not enough for a round: the smallest, 40 steps, takes 276 J" in none


def test_samples_without_a_place_wait_for_a_later_round() -> None:
    many = Wanted(new=300, rehearsal=300, epochs=1, batch_size=4, min_steps=40, pixels={}, scales=(1.0,))
    size = fit_round(Cost(0.0, 1.0), 50.0, many)
    assert isinstance(size, RoundSize)
    assert (size.steps, size.rehearsal, size.new) == (50, 66, 134)
    assert "134 of 300 new samples" in size.reason


def test_the_cost_is_learnt_from_rounds_of_different_lengths() -> None:
    past = [(50.0, 200.0), (100.0, 300.0), (80.0, 260.0), (60.0, 5000.0)]  # 100 J + 2 J a step, one outlier
    cost = fit_cost(past, Cost(1.0, 1.0))
    assert cost.step_joules == pytest.approx(2.0)
    assert cost.overhead_joules == pytest.approx(100.0)


def test_rounds_of_one_length_are_divided_as_the_default_is() -> None:
    cost = fit_cost([(100.0, 400.0), (100.0, 400.0)], Cost(50.0, 1.5))
    assert cost == Cost(pytest.approx(100.0), pytest.approx(3.0))


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0.1, 1e6) | st.just(math.nan)), max_size=12))
def test_a_cost_is_never_negative_nor_free(past: list[tuple[int, float]]) -> None:
    default = Cost(50.0, 1.5)
    cost = fit_cost(past, default)
    told = [joules / steps for steps, joules in past if steps > 0 and joules > 0]
    assert cost.overhead_joules >= 0
    assert min(told, default=1.5) / 4 <= cost.step_joules <= max(told, default=1.5)
    assert told or cost == default


def test_pixels_fall_with_the_square_of_the_scale() -> None:
    assert pixel_share({1.0: 100.0}, 0.5) == 0.25
    assert pixel_share({0.5: 100.0}, 0.5) == 1.0
    assert pixel_share({}, 0.5) == 0.25
    assert pixel_share(PIXELS, 1.0) == 1.0
