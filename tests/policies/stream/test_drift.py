"""No alarm where nothing changes, at the stated rate; an alarm within a bounded time where something does."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dance_ondevice.policies.stream.drift import (
    SIGNALS,
    Adwin,
    DriftRules,
    DriftState,
    PageHinkley,
    Signal,
    adwin,
    forget,
    observe,
    page_hinkley,
)

RULES = DriftRules()
STREAMS: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda draw: draw.gauss(0.5, 0.05),
    "uniform": lambda draw: draw.random(),
    "skewed": lambda draw: draw.betavariate(1, 8),
    "two-valued": lambda draw: float(draw.random() < 0.4),
    "constant": lambda _: 0.37,
}
seeds = st.integers(0, 2**32)


@pytest.mark.parametrize("kind", STREAMS)
def test_stationary_streams_alarm_no_more_often_than_stated(kind: str) -> None:
    cuts = looks = jumps = values = 0
    for seed in range(4):
        draw, window, test = random.Random(seed), Adwin(), PageHinkley()
        for _ in range(2500):
            value = min(1.0, max(0.0, STREAMS[kind](draw)))
            window, change = adwin(RULES, window, value)
            cuts += change != ""
            test, change = page_hinkley(RULES, test, value, 0.01)
            jumps += change != ""
            values += 1
            looks += window.seen % RULES.look_every == 0
    assert cuts <= RULES.delta * looks
    assert jumps <= values / 10_000


@settings(max_examples=40)
@given(seeds, st.floats(3.0, 8.0), st.sampled_from([-1, 1]), st.integers(60, 200))
def test_page_hinkley_finds_a_shift_of_three_deviations_within_twenty_four_values(
    seed: int, size: float, sign: int, before: int
) -> None:
    draw, test = random.Random(seed), PageHinkley()
    for _ in range(before):
        test, _ = page_hinkley(RULES, test, draw.gauss(0.5, 0.02), 0.02)
    changes = []
    for _ in range(24):
        test, change = page_hinkley(RULES, test, draw.gauss(0.5 + sign * size * 0.02, 0.02), 0.02)
        changes.append(change)
    assert ("rise" if sign > 0 else "fall") in changes


@settings(max_examples=25)
@given(seeds, st.sampled_from([-0.3, 0.3]), st.integers(150, 400))
def test_adwin_finds_a_shift_of_three_tenths_within_sixty_four_values(
    seed: int, shift: float, before: int
) -> None:
    draw, window = random.Random(seed), Adwin()
    for _ in range(before):
        window, _ = adwin(RULES, window, min(1.0, max(0.0, draw.gauss(0.5, 0.1))))
    changes = []
    for _ in range(64):
        window, change = adwin(RULES, window, min(1.0, max(0.0, draw.gauss(0.5 + shift, 0.1))))
        changes.append(change)
    assert ("rise" if shift > 0 else "fall") in changes


def test_adwin_finds_a_small_change_that_lasts_and_forgets_what_was_before() -> None:
    draw, window = random.Random(1), Adwin()
    changed = []
    for mean in (0.5, 0.55):
        for _ in range(1500):
            window, change = adwin(RULES, window, min(1.0, max(0.0, draw.gauss(mean, 0.1))))
            changed.append(change)
    assert "rise" in changed[1500:]
    assert not any(changed[:1500])
    assert window.mean == pytest.approx(0.55, abs=0.01)


@given(st.lists(st.floats(0, 1), max_size=150), st.integers(2, 64))
def test_adwins_window_is_the_latest_values(values: list[float], most: int) -> None:
    rules, window = DriftRules(look_every=10**9, most_values=most), Adwin()
    for value in values:
        window, _ = adwin(rules, window, value)
    assert window.values <= most
    if values:
        assert window.mean == pytest.approx(statistics.fmean(values[-window.values :]), abs=1e-9)
    # Logarithmic in the length of the window.
    assert len(window.buckets) <= 6 * max(1, window.values.bit_length())


def frames(state: DriftState, count: int, **values: float) -> tuple[DriftState, list[tuple[str, ...]]]:
    found = []
    for _ in range(count):
        state, alarms = observe(RULES, state, values)
        found.append(alarms)
    return state, found


def test_one_change_is_one_alarm_of_the_signal_that_changed() -> None:
    state, before = frames(DriftState(), 100, luma=0.5, tint=0.0)
    assert not any(before)
    _, after = frames(state, 200, luma=0.2, tint=0.0)
    assert [alarms for alarms in after if alarms] == [("luma",)]


@pytest.mark.parametrize(("to", "alarms"), [(0.4, True), (0.99, False)])
def test_only_a_fall_of_confidence_is_bad_news(to: float, alarms: bool) -> None:
    state, _ = frames(DriftState(), 100, confidence=0.7)
    _, after = frames(state, 100, confidence=to)
    assert any(after) == alarms


def test_what_is_forgotten_begins_anew() -> None:
    state, _ = frames(DriftState(), 100, confidence=0.9, luma=0.5)
    _, after = frames(forget(state, ["confidence"]), 100, confidence=0.3, luma=0.5)
    assert not any(after)


@given(st.lists(st.floats(0.45, 0.55), min_size=1, max_size=200))
def test_what_stays_within_a_deviation_of_the_usual_is_no_news(values: list[float]) -> None:
    state = DriftState()
    wide = {"luma": Signal(unit=0.2)}
    for value in values:
        state, alarms = observe(DriftRules(look_every=10**9), state, {"luma": value}, wide)
        assert alarms == ()


@pytest.mark.parametrize(
    ("values", "said"), [({"luma": float("nan")}, "luma is nan"), ({"smell": 0.5}, "no signal is called")]
)
def test_bad_values_are_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        observe(RULES, DriftState(), values)


def test_every_signal_has_a_range_and_a_unit() -> None:
    for signal in SIGNALS.values():
        assert signal.low < signal.high
        assert 0 < signal.unit < signal.high - signal.low
