"""Whatever order faults come in, a meter books no energy that was not there, and says what it did not see."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_boards import TREES, busy, denied, gone
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.energy.hwmon import open_hwmon
from dance_ondevice.energy.ina3221 import open_ina3221
from dance_ondevice.energy.rapl import RaplMeter, find_zones
from dance_ondevice.energy.reading import EnergyReading, Meter
from dance_ondevice.energy.sensors import SensorMeter
from dance_ondevice.energy.sysfs import Read, read_attribute

pytestmark = pytest.mark.slow

RANGE = 262_143.32885
ZONES = ("intel-rapl:0", "intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl:0:2", "intel-rapl:1")
FAULTS: dict[str, object] = {
    "denied": denied,
    "busy": busy,
    "gone": gone,
    "no data": lambda path: OSError(errno.ENODATA, os.strerror(errno.ENODATA), str(path)),
    "garbage": "<not counted>",
    "empty": "",
    "not a number": "nan",
}


def answer(fault: object, path: Path) -> str:
    if callable(fault):
        raise fault(path)
    return str(fault)


class Watch:
    """Holds every reading of a meter against the one before and the time that went by."""

    def __init__(self, meter: Meter) -> None:
        self.meter, self.now = meter, 0.0
        self.last = meter.read(0.0)

    def after(self, seconds: float) -> EnergyReading:
        self.now += seconds
        reading = self.meter.read(self.now)
        assert reading.joules >= self.last.joules - 1e-9
        for kind in ("domains", "breakdown"):
            new = {domain.domain: domain.joules for domain in getattr(reading, kind)}
            assert all(new.get(old.domain, 0.0) >= old.joules for old in getattr(self.last, kind))
        assert sum(part.joules for part in reading.breakdown) <= reading.joules + 1e-6
        assert self.last.unmeasured_seconds <= reading.unmeasured_seconds <= self.now + 1e-6
        self.last = reading
        return reading


class Counters:
    """RAPL counters of a machine whose true energy is known; ``read`` is what its meter reads through."""

    def __init__(self, start: float) -> None:
        self.true = dict.fromkeys(ZONES, 0.0)
        self.value = dict.fromkeys(ZONES, start)
        self.faults: dict[str, object] = {}

    def use(self, core: float, more: tuple[float, float, float]) -> None:
        """psys contains package and memory, the package its cores and graphics."""
        uncore, dram, board = (core * share for share in more)
        for zone, joules in zip(ZONES, (core + uncore, core, uncore, dram, board), strict=True):
            self._add(zone, joules + (core + uncore + dram if zone == "intel-rapl:1" else 0.0))

    def _add(self, zone: str, joules: float) -> None:
        self.true[zone] += joules
        self.value[zone] = (self.value[zone] + joules) % RANGE

    def read(self, path: Path) -> str:
        if path.name != "energy_uj":
            return read_attribute(path)
        zone = path.parent.name
        if zone in self.faults:
            return answer(self.faults[zone], path)
        return str(int(self.value[zone] * 1e6))


def rapl(read: Read) -> RaplMeter:
    return RaplMeter(find_zones(TREES / "nuc" / "sys"), read)


steps = st.tuples(st.floats(0.05, 3.0), st.floats(0.5, 60.0), st.tuples(*[st.floats(0.0, 0.5)] * 3))
broken = st.dictionaries(st.sampled_from(ZONES), st.sampled_from(sorted(FAULTS)), max_size=5)
events = st.one_of(
    st.just(None),
    broken.map(lambda faults: ("break", faults)),
    st.tuples(st.just("reset"), st.sets(st.sampled_from(ZONES))),
    st.tuples(st.just("wild"), st.sampled_from(ZONES), st.floats(0.3, 0.7)),
)


@given(st.booleans(), st.lists(st.tuples(steps, events), max_size=20))
def test_counters(near_the_top: bool, story: list[tuple]) -> None:
    world = Counters(RANGE - 300 if near_the_top else 20_000)
    watch = Watch(rapl(world.read))
    wild_before: set[str] = set()
    for (seconds, watts, more), event in story:
        world.use(watts * seconds, more)
        world.faults, wild = {}, set()
        match event:
            case ("break", faults):
                world.faults = {zone: FAULTS[name] for zone, name in faults.items()}
            case ("reset", zones):
                # A counter that falls from near its top looks as if it had wrapped, to anybody.
                for zone in zones:
                    if world.value[zone] < RANGE / 2:
                        world.value[zone] = 0.0
            case ("wild", zone, offset) if zone not in wild_before:
                world.faults[zone] = str(int((world.value[zone] + offset * RANGE) % RANGE * 1e6))
                wild = {zone}
        wild_before = wild
        reading = watch.after(seconds)
        assert reading.joules <= world.true["intel-rapl:1"] + 1e-3
        for domain in reading.domains:
            zone = {"psys": "intel-rapl:1", "package-0": "intel-rapl:0", "package-0/dram": "intel-rapl:0:2"}
            assert domain.joules <= world.true[zone[domain.domain]] + 1e-3


@given(st.booleans(), st.lists(steps, min_size=1, max_size=20))
def test_counters_without_faults_are_booked_to_the_joule(near_the_top: bool, story: list[tuple]) -> None:
    world = Counters(RANGE - 300 if near_the_top else 20_000)
    watch = Watch(rapl(world.read))
    for seconds, watts, more in story:
        world.use(watts * seconds, more)
        watch.after(seconds)
    assert watch.last.joules == pytest.approx(world.true["intel-rapl:1"], abs=1e-3)
    assert watch.last.unmeasured_seconds == 0


def jetson(read: Read) -> SensorMeter:
    return open_ina3221(TREES / "orin_nano_jp6" / "sys", read)


def jetson_rails(read: Read) -> SensorMeter:
    return open_ina3221(TREES / "agx_orin" / "sys", read)


def ina226(read: Read) -> SensorMeter:
    return open_hwmon(TREES / "ina226" / "sys", read)


@pytest.mark.parametrize(
    ("opened", "watts"),
    [
        (jetson, 4.960 * 0.968),
        (jetson_rails, 19.136 * 0.2 + 4.960 * 0.76),
        (ina226, 7.35),
    ],
)
@given(
    story=st.lists(
        st.tuples(
            st.one_of(st.floats(0.05, 0.3), st.floats(0.05, 5.0)),
            st.dictionaries(
                st.sampled_from(
                    ["in1_input", "curr1_input", "curr2_input", "power1_input", "name", "in1_enable"]
                ),
                st.sampled_from([*sorted(FAULTS), "0"]),
                max_size=3,
            ),
        ),
        max_size=40,
    )
)
def test_power(
    opened: Callable[[Read], SensorMeter], watts: float, story: list[tuple[float, dict[str, str]]]
) -> None:
    faults: dict[str, str] = {}

    def read(path: Path) -> str:
        name = faults.get(path.name)
        # A sensor that says 0 is believed, save where 0 means that it is switched off.
        if name is None or (name == "0" and path.name != "in1_enable"):
            return read_attribute(path)
        return answer(FAULTS.get(name, name), path)

    watch = Watch(opened(read))
    for seconds, broken_now in story:
        faults.clear()
        faults.update(broken_now)
        reading = watch.after(seconds)
        covered = watch.now - reading.unmeasured_seconds
        assert reading.joules <= watts * watch.now + 1e-6
        # What counts as measured is booked, but for a gap of up to a second that may still be bridged.
        assert reading.joules >= watts * (covered - 1.0) - 1e-6
        if len(reading.domains) == 1:
            assert reading.joules <= watts * covered + 1e-6
