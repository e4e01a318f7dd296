"""The modelled meter: its formula, and what it says when the CPU counter cannot be trusted."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.energy.model import ModelledMeter
from dance_ondevice.energy.reading import DomainEnergy, EnergyReading, Meter


class Counter:
    """A CPU counter that the test moves; a value of None is a counter that cannot be read."""

    def __init__(self, value: float | None = 0.0) -> None:
        self.value = value

    def __call__(self) -> float:
        if self.value is None:
            raise OSError("gone")
        return self.value


def make(counter: Counter, idle: float = 2.0, most: float = 10.0, cores: int = 4) -> ModelledMeter:
    return ModelledMeter(counter, idle, most, cores)


def test_formula() -> None:
    counter = Counter(100.0)
    meter: Meter = make(counter)
    assert meter.read(1000.0).joules == 0
    counter.value = 106.0
    reading = meter.read(1010.0)
    # 2 W idle for 10 s, and (10 - 2) / 4 W for each of 6 CPU seconds.
    assert reading.joules == pytest.approx(2 * 10 + 8 / 4 * 6)
    assert reading.unmeasured_seconds == 0
    assert reading.domains == (DomainEnergy("board", reading.joules, "model", "modelled"),)
    assert (meter.source, meter.method) == ("model", "modelled")


def test_all_cores_busy_is_max_watts() -> None:
    counter = Counter()
    meter = make(counter)
    meter.read(0.0)
    counter.value = 4 * 60.0
    assert meter.read(60.0).joules == pytest.approx(10 * 60)


def test_reset_counts_as_unmeasured_and_counting_goes_on() -> None:
    counter = Counter(50.0)
    meter = make(counter)
    meter.read(0.0)
    counter.value = 1.0
    after_reset = meter.read(5.0)
    assert after_reset.joules == pytest.approx(2 * 5)
    assert after_reset.unmeasured_seconds == 5
    counter.value = 3.0
    assert meter.read(6.0).joules == pytest.approx(2 * 6 + 2 * 2)
    assert meter.read(6.0).unmeasured_seconds == 5


def test_unreadable_time_is_unmeasured_and_its_cpu_seconds_are_caught_up_with() -> None:
    counter = Counter(0.0)
    meter = make(counter)
    meter.read(0.0)
    counter.value = None
    assert meter.read(3.0) == EnergyReading((DomainEnergy("board", 6.0, "model", "modelled"),), 3.0)
    counter.value = 4.0
    reading = meter.read(4.0)
    assert reading.joules == pytest.approx(2 * 4 + 2 * 4)
    assert reading.unmeasured_seconds == 3


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_unreadable_from_the_start(bad: float | None) -> None:
    counter = Counter(bad)
    meter = make(counter)
    meter.read(0.0)
    counter.value = 1e6
    # What the counter held before it could first be read is not this meter's.
    assert meter.read(2.0) == EnergyReading((DomainEnergy("board", 4.0, "model", "modelled"),), 2.0)


@given(
    st.lists(
        st.tuples(
            st.floats(-10, 1e6),
            st.one_of(st.none(), st.floats(allow_nan=True), st.floats(0, 1e6)),
        ),
        max_size=30,
    ),
    st.floats(0, 50),
    st.floats(0, 50),
    st.integers(1, 64),
)
def test_cumulative_never_falls(
    reads: list[tuple[float, float | None]], idle: float, dynamic: float, cores: int
) -> None:
    counter = Counter()
    meter = ModelledMeter(counter, idle, idle + dynamic, cores)
    joules, unmeasured = 0.0, 0.0
    first = latest = reads[0][0] if reads else 0.0
    for now, cpu in reads:
        counter.value = cpu
        latest = max(now, latest)
        reading = meter.read(now)
        assert reading.joules >= joules
        assert unmeasured <= reading.unmeasured_seconds <= (latest - first) * (1 + 1e-9) + 1e-6
        joules, unmeasured = reading.joules, reading.unmeasured_seconds


@pytest.mark.parametrize(
    ("idle", "most", "cores", "word"),
    [
        (-1, 5, 1, "idle_watts"),
        (math.nan, 5, 1, "idle_watts"),
        (5, 4, 1, "max_watts"),
        (5, math.inf, 1, "max_watts"),
        (0, 5, 0, "cores"),
    ],
)
def test_impossible_figures(idle: float, most: float, cores: int, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        ModelledMeter(Counter(), idle, most, cores)
