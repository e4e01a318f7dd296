"""Who gives way to whom while the meters run, and that nothing is booked twice or invented meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_boards import FakeBoard, denied, joules, no_command, parts
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.energy.choose import Machine, best_meter
from dance_ondevice.energy.reading import EnergyReading, SourceMeter
from dance_ondevice.energy.sensors import Sample, SensorMeter
from dance_ondevice.energy.supply.chain import PATIENCE_S, PROBATION_S, Chain
from dance_ondevice.energy.tracks import CounterTrack, PowerTrack, Track


class Server:
    """A NUC with an ACPI power meter: RAPL's psys counts 60 W, the meter shows what the test says."""

    def __init__(self, folder: Path, watts: float) -> None:
        self.board = FakeBoard("nuc", folder)
        self.now = 0.0
        self.show(watts)
        self.tick(0.0)
        meter, self.passed = best_meter(Machine(sysfs=self.board.sysfs, read=self.board.read, run=no_command))
        assert meter is not None
        self.meter: SourceMeter = meter
        self.reading = meter.read(0.0)

    def show(self, watts: float) -> None:
        self.board.put("class/hwmon/hwmon9/name", "power_meter")
        self.board.put("class/hwmon/hwmon9/power1_average", int(watts * 1e6))

    def tick(self, seconds: float) -> None:
        self.now += seconds
        for zone, watts in (("0", 40), ("0:0", 20), ("0:1", 2), ("0:2", 5), ("1", 60)):
            self.board.put(
                f"class/powercap/intel-rapl:{zone}/energy_uj", int((1000 + watts * self.now) * 1e6)
            )

    def run(self, seconds: float) -> EnergyReading:
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.tick(min(self.meter.period_s, end - self.now))
            self.reading = self.meter.read(self.now)
        return self.reading


@pytest.mark.parametrize("nonsense", [0.0, 4_294_967.295])
def test_a_meter_that_dies_gives_way_and_comes_back(tmp_path: Path, nonsense: float) -> None:
    server = Server(tmp_path, 130.0)
    assert server.run(10.0).joules == pytest.approx(1300, rel=0.01)
    assert server.meter.source == "hwmon"
    server.show(nonsense)
    before = server.reading
    after = server.run(20.0)
    assert server.meter.source == "rapl"
    assert "hwmon is passed over while it lasts" in server.meter.about
    # One read of the dead meter went by before the other one was looked at.
    assert after.unmeasured_seconds <= 0.2
    assert after.joules - before.joules == pytest.approx(60 * 20, rel=0.02)
    assert joules(after).keys() == {"board", "psys"}
    server.show(130.0)
    server.run(PROBATION_S + 2.0)
    assert server.meter.source == "hwmon"
    before = server.reading
    assert server.run(10.0).joules - before.joules == pytest.approx(1300, rel=0.01)
    assert server.reading.unmeasured_seconds <= 0.2
    assert sum(parts(server.reading).values()) <= server.reading.joules


def test_a_sensor_that_is_busy_for_a_moment_gives_way_to_nobody(tmp_path: Path) -> None:
    server = Server(tmp_path, 130.0)
    server.run(2.0)
    server.board.faults["power1_average"] = denied
    server.run(PATIENCE_S / 2)
    server.board.faults.clear()
    assert server.run(2.0).joules == pytest.approx(130 * server.now, rel=0.01)
    assert (server.meter.source, server.reading.unmeasured_seconds) == ("hwmon", 0)


def test_what_was_dead_at_the_start_is_taken_when_it_wakes(tmp_path: Path) -> None:
    server = Server(tmp_path, 0.0)
    assert server.meter.source == "rapl"
    assert [error.source for error in server.passed if error.remedy] == ["hwmon"]
    server.run(5.0)
    server.show(130.0)
    server.run(PROBATION_S + 3.0)
    assert server.meter.source == "hwmon"
    assert server.reading.unmeasured_seconds == 0


def test_a_board_that_draws_less_than_its_processor_counts_is_none(tmp_path: Path) -> None:
    server = Server(tmp_path, 7.0)
    server.run(PROBATION_S + 3.0)
    assert server.meter.source == "rapl"
    assert "counts 45.00 W for a part of the board" in server.meter.about
    before = server.reading
    assert server.run(30.0).joules - before.joules == pytest.approx(60 * 30, rel=0.01)


def test_a_platform_counter_that_counts_too_much_discredits_nobody(tmp_path: Path) -> None:
    server = Server(tmp_path, 46.0)  # psys says 60 W, package and memory 45 W
    server.run(3 * PROBATION_S)
    assert server.meter.source == "hwmon"
    assert server.reading.joules == pytest.approx(46 * server.now, rel=0.01)


def test_counters_that_stand_still_measure_nothing(tmp_path: Path) -> None:
    board = FakeBoard("nuc", tmp_path)
    meter, _ = best_meter(Machine(sysfs=board.sysfs, read=board.read, run=no_command))
    assert meter is not None
    for second in range(31):
        reading = meter.read(float(second))
    assert (reading.joules, reading.unmeasured_seconds) == (0, 30)
    assert "stood still" in "; ".join(reading.faults.values())


def test_the_time_of_a_dead_counter_is_unmeasured_and_the_next_meter_is_read(tmp_path: Path) -> None:
    board = FakeBoard("ina226", tmp_path)  # for its battery
    board.faults["power1_input"] = board.faults["curr1_input"] = denied
    for name, value in (("name", "package-0"), ("energy_uj", 0), ("max_energy_range_uj", 262_143_328_850)):
        board.put(f"class/powercap/intel-rapl:0/{name}", value)
    meter, _ = best_meter(Machine(sysfs=board.sysfs, read=board.read, run=no_command))
    assert meter is not None
    assert meter.source == "rapl"
    for second in range(31):
        reading = meter.read(float(second))
    assert meter.source == "battery"
    measured = 30 - reading.unmeasured_seconds
    assert reading.unmeasured_seconds <= 12
    assert reading.joules == pytest.approx(7.612 * 0.903 * measured)


def fake(name: str, world: dict[str, float | None], *, counter: bool) -> SensorMeter:
    def sample() -> Sample:
        value = world[name]
        return Sample({name: value} if value is not None else {})

    track: Track = CounterTrack() if counter else PowerTrack()
    return SensorMeter(
        source=name, about=name, period_s=0.1, sample=sample, whole={name: track}, scope="part"
    )


@given(
    st.lists(
        st.tuples(
            st.floats(0.05, 0.5),  # seconds
            st.integers(1, 15),  # so many times
            st.sampled_from(["shows", "fails", "dead"]),  # the power sensor
            st.booleans(),  # the counter can be read
        ),
        max_size=12,
    )
)
def test_every_moment_is_booked_to_one_meter_or_to_none(story: list[tuple[float, int, str, bool]]) -> None:
    # Both see the same 10 W: whoever is asked, and however they change, the sum is known.
    world: dict[str, float | None] = {"power": 10.0, "counter": 100.0}
    counted = 100.0
    chain = Chain([fake("power", world, counter=False), fake("counter", world, counter=True)])
    now, last = 0.0, chain.read(0.0)
    for seconds, times, state, readable in story:
        for _ in range(times):
            now += seconds
            counted += 10.0 * seconds
            world["power"] = {"shows": 10.0, "fails": None, "dead": 0.0}[state]
            world["counter"] = counted if readable else None
            reading = chain.read(now)
            assert reading.joules >= last.joules - 1e-9
            assert last.unmeasured_seconds <= reading.unmeasured_seconds <= now + 1e-6
            assert reading.joules <= 10.0 * now + 1e-6
            last = reading
    # What is neither booked nor unmeasured may still be bridged.
    missing = now - last.unmeasured_seconds - last.joules / 10.0
    assert missing <= PATIENCE_S + 1.0 + 1e-6
