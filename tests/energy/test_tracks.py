"""Counters and power over time: what is booked, and what is handed back as not measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.energy.tracks import CounterTrack, Parts, PowerTrack, Uncovered

RANGE = 262_143.0


def run(track: CounterTrack | PowerTrack, *readings: tuple[float, float | None]) -> list[object]:
    return [track.update(now, value) for now, value in readings]


def test_a_counter_counts_from_its_first_value() -> None:
    track = CounterTrack(RANGE)
    assert run(track, (10.0, 500.0), (11.0, 507.5), (12.0, 509.0)) == [None, None, None]
    assert track.joules == pytest.approx(9.0)


def test_a_counter_wraps_at_its_range() -> None:
    track = CounterTrack(RANGE)
    assert run(track, (0.0, RANGE - 4), (1.0, 6.0)) == [None, None]
    assert track.joules == pytest.approx(10.0)


@pytest.mark.parametrize("range_joules", [RANGE, None])
def test_a_reset_is_no_energy_and_costs_one_interval(range_joules: float | None) -> None:
    track = CounterTrack(range_joules)
    assert run(track, (0.0, 90_000.0), (1.0, 2.0), (2.0, 5.0)) == [None, (0.0, 1.0), None]
    assert track.joules == pytest.approx(3.0)


def test_one_wild_value_loses_no_energy() -> None:
    track = CounterTrack(RANGE)
    assert run(track, (0.0, 100.0), (1.0, 200_000.0), (2.0, 112.0)) == [None, (0.0, 1.0), None]
    assert track.joules == pytest.approx(12.0)


def test_a_value_beyond_the_range_is_no_reading() -> None:
    track = CounterTrack(RANGE)
    assert run(track, (0.0, 100.0), (1.0, RANGE + 1), (2.0, -5.0), (3.0, math.nan), (4.0, 103.0)) == [
        None,
        (0.0, 1.0),
        (1.0, 2.0),
        (2.0, 3.0),
        None,
    ]
    assert track.joules == pytest.approx(3.0)


def test_what_a_counter_counted_while_it_could_not_be_read_is_caught_up_with() -> None:
    track = CounterTrack(RANGE)
    assert run(track, (0.0, 100.0), (5.0, None), (6.0, 160.0)) == [None, (0.0, 5.0), None]
    assert track.joules == pytest.approx(60.0)
    assert not track.step_is_last_interval
    track.update(7.0, 161.0)
    assert (track.step, track.step_is_last_interval) == (1.0, True)


def test_after_a_gap_long_enough_to_run_through_a_fall_is_unknown_and_a_rise_a_lower_bound() -> None:
    fell, rose = CounterTrack(RANGE), CounterTrack(RANGE)
    assert run(fell, (0.0, RANGE - 10), (3600.0, 5.0), (3601.0, 6.0))[1:] == [(0.0, 3600.0), None]
    assert fell.joules == pytest.approx(1.0)
    assert run(rose, (0.0, 10.0), (3600.0, 5010.0))[1:] == [(0.0, 3600.0)]
    assert rose.joules == pytest.approx(5000.0)


def test_unreadable_from_the_start_is_uncovered() -> None:
    track = CounterTrack(RANGE)
    assert run(track, (0.0, None), (2.0, None), (3.0, 50.0), (4.0, 51.0)) == [None, (0, 2), (2, 3), None]
    assert track.joules == pytest.approx(1.0)


def test_power_is_integrated_by_trapezoids() -> None:
    track = PowerTrack()
    assert run(track, (0.0, 4.0), (0.1, 6.0), (0.3, 6.0)) == [None, None, None]
    assert track.joules == pytest.approx(0.5 + 1.2)


def test_a_short_failure_is_bridged_and_a_long_one_is_uncovered() -> None:
    short, long = PowerTrack(max_gap=1.0), PowerTrack(max_gap=1.0)
    assert run(short, (0.0, 5.0), (0.1, None), (0.2, 5.0)) == [None, None, None]
    assert short.joules == pytest.approx(1.0)
    assert run(long, (0.0, 5.0), (0.9, None), (1.5, None), (2.0, 5.0), (2.1, 5.0)) == [
        None,
        None,
        (0.0, 1.5),
        (1.5, 2.0),
        None,
    ]
    assert long.joules == pytest.approx(0.5)


def test_nothing_is_guessed_for_a_stall() -> None:
    track = PowerTrack(max_gap=1.0)
    assert run(track, (0.0, 5.0), (60.0, 5.0)) == [None, (0.0, 60.0)]
    assert track.joules == 0


@pytest.mark.parametrize("watts", [-3.0, 5000.0, math.nan, math.inf])
def test_impossible_power_is_no_sample(watts: float) -> None:
    track = PowerTrack(max_gap=0.5)
    assert run(track, (0.0, 2.0), (1.0, watts), (2.0, 2.0)) == [None, (0.0, 1.0), (1.0, 2.0)]
    assert track.joules == 0


def test_noise_around_nothing_is_nothing() -> None:
    track = PowerTrack()
    run(track, (0.0, -0.02), (1.0, -0.02))
    assert track.joules == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(lambda t: (min(t), max(t))), max_size=60
    )
)
def test_uncovered_time_is_the_length_of_the_union(spans: list[tuple[int, int]]) -> None:
    uncovered, seen = Uncovered(), 0.0
    for start, end in spans:
        uncovered.add((float(start), float(end)))
        assert uncovered.seconds >= seen
        seen = uncovered.seconds
    seconds = set().union(*(range(start, end) for start, end in spans))
    assert uncovered.seconds == pytest.approx(len(seconds))


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10), st.floats(0, 10)), max_size=30))
def test_parts_never_fall_never_exceed_the_whole_and_lose_nothing_that_has_room(
    steps: list[tuple[float, float, float]],
) -> None:
    fitted, whole, raw, last = Parts(), 0.0, {"a": 0.0, "b": 0.0}, {"a": 0.0, "b": 0.0}
    for step, a, b in steps:
        whole, raw = whole + step, {"a": raw["a"] + a, "b": raw["b"] + b}
        shown = fitted.fit(whole, raw)
        assert sum(shown.values()) <= whole + 1e-9
        assert all(last[name] <= shown[name] <= raw[name] + 1e-9 for name in raw)
        last = shown
    whole += 1000
    assert fitted.fit(whole, raw) == pytest.approx(raw)


def test_when_a_value_follows_from_both_the_smaller_step_is_booked() -> None:
    track = CounterTrack(RANGE)
    assert run(track, (0.0, 100.0), (1.0, 5000.0), (4.0, 5003.0)) == [None, (0.0, 1.0), None]
    assert track.joules == pytest.approx(3.0)
