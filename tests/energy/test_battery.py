from __future__ import annotations

from pathlib import Path

import pytest
from fake_boards import FakeBoard, busy, joules

from dance_ondevice.energy.battery import battery_watts, charge_percent, open_battery
from dance_ondevice.energy.sensors import MeterUnavailable

GAUGE = "class/power_supply/max17042_battery"


@pytest.fixture
def board(tmp_path: Path) -> FakeBoard:
    return FakeBoard("ina226", tmp_path)


@pytest.mark.parametrize("sign", [1, -1])
def test_microvolts_times_microamperes_whatever_the_sign(board: FakeBoard, sign: int) -> None:
    board.put(f"{GAUGE}/current_now", sign * 903_000)
    assert battery_watts(board.sysfs) == pytest.approx(7.612 * 0.903)


def test_power_is_preferred_and_averages_are_better_than_nothing(board: FakeBoard) -> None:
    board.put(f"{GAUGE}/power_now", -6_500_000)
    assert battery_watts(board.sysfs) == pytest.approx(6.5)
    for name in ("power_now", "current_now"):
        (board.sysfs / GAUGE / name).unlink()
    board.put(f"{GAUGE}/current_avg", 800_000)
    assert battery_watts(board.sysfs) == pytest.approx(7.612 * 0.8)


def test_only_discharging_is_measured(board: FakeBoard) -> None:
    meter = open_battery(board.sysfs, board.read)
    for second in range(11):
        reading = meter.read(float(second))
    assert joules(reading) == {"board": pytest.approx(10 * 7.612 * 0.903)}
    board.put(f"{GAUGE}/status", "Charging")
    for second in range(11, 31):
        reading = meter.read(float(second))
    assert (reading.joules, reading.unmeasured_seconds) == (pytest.approx(10 * 7.612 * 0.903), 20)


@pytest.mark.parametrize("watts", [5.0, 60.0])
def test_a_gauge_that_takes_one_step_a_minute_loses_none(board: FakeBoard, watts: float) -> None:
    """As those of notebooks do; one without power_now is measured by the fall of its energy."""
    for name in ("power_now", "current_now"):
        (board.sysfs / GAUGE / name).unlink(missing_ok=True)
    full = 80 * 3_600_000_000.0  # uJ
    board.put(f"{GAUGE}/energy_full", round(full / 3600))
    board.put(f"{GAUGE}/energy_now", round(full / 3600))
    meter = open_battery(board.sysfs, board.read)
    for second in range(601):
        drawn = second // 60 * 60 * watts
        board.put(f"{GAUGE}/energy_now", round((full - 1e6 * drawn) / 3600))
        reading = meter.read(float(second))
        assert second < 120 or reading.watts == pytest.approx(watts, rel=1e-3)
    assert joules(reading) == {"board": pytest.approx(600 * watts, rel=1e-3)}
    assert reading.unmeasured_seconds == 0.0
    # A step that no minute explains is no consumption: a gauge that was calibrated anew.
    board.put(f"{GAUGE}/energy_now", round(full / 7200))
    assert meter.read(601.0).joules == reading.joules


def test_more_than_full_is_drawn_as_well(board: FakeBoard) -> None:
    """A new battery holds more than its gauge calls full, and no joule of that was counted."""
    for name in ("power_now", "current_now"):
        (board.sysfs / GAUGE / name).unlink(missing_ok=True)
    board.put(f"{GAUGE}/energy_full", 50_000_000)
    board.put(f"{GAUGE}/energy_now", 55_000_000)
    meter = open_battery(board.sysfs, board.read)
    for second in range(101):
        board.put(f"{GAUGE}/energy_now", round(55_000_000 - second * 10 / 3600 * 1e6))
        reading = meter.read(float(second))
    assert reading.joules == pytest.approx(1000.0, rel=1e-3)


@pytest.mark.parametrize(("microvolts", "microamperes"), [(7612, 903_000), (7_612_000, 903), (7612, 903)])
def test_a_driver_that_prints_other_units_measures_nothing(
    board: FakeBoard, microvolts: int, microamperes: int
) -> None:
    board.put(f"{GAUGE}/voltage_now", microvolts)
    board.put(f"{GAUGE}/current_now", microamperes)
    with pytest.raises(ValueError, match=r"max17042_battery discharging shows .* W, and a board draws more"):
        battery_watts(board.sysfs)


def test_discharging_beside_an_outside_supply_is_half_the_truth(board: FakeBoard) -> None:
    board.put("class/power_supply/dc-in/online", 1)
    with pytest.raises(ValueError, match="outside supply"):
        battery_watts(board.sysfs)


def test_two_batteries_of_which_one_rests(board: FakeBoard) -> None:
    for name, value in (("type", "Battery"), ("status", "Not charging"), ("power_now", 0), ("capacity", 40)):
        board.put(f"class/power_supply/BAT1/{name}", value)
    assert battery_watts(board.sysfs) == pytest.approx(7.612 * 0.903)
    board.put("class/power_supply/BAT1/status", "Unknown")
    assert battery_watts(board.sysfs) == pytest.approx(7.612 * 0.903)
    board.put("class/power_supply/BAT1/power_now", 4_000_000)
    with pytest.raises(ValueError, match="BAT1 is Unknown"):
        battery_watts(board.sysfs)


def test_a_gauge_that_reads_zero_is_not_ready(board: FakeBoard) -> None:
    board.put(f"{GAUGE}/current_now", 0)
    with pytest.raises(ValueError, match="shows 0 W, and a board draws more"):
        battery_watts(board.sysfs)


def test_batteries_of_mice_and_empty_bays_are_none(board: FakeBoard) -> None:
    board.put(f"{GAUGE}/scope", "Device")
    with pytest.raises(MeterUnavailable, match="no battery"):
        open_battery(board.sysfs)
    board.put(f"{GAUGE}/scope", "System")
    board.put(f"{GAUGE}/present", 0)
    with pytest.raises(MeterUnavailable, match="no battery"):
        open_battery(board.sysfs)


def test_a_gauge_without_current_is_no_meter(board: FakeBoard) -> None:
    (board.sysfs / GAUGE / "current_now").unlink()
    with pytest.raises(MeterUnavailable, match="neither power_now nor current_now"):
        open_battery(board.sysfs)


def test_on_mains_it_is_a_meter_only_when_named(board: FakeBoard) -> None:
    board.put(f"{GAUGE}/status", "Full")
    assert open_battery(board.sysfs).source == "battery"
    with pytest.raises(MeterUnavailable):
        open_battery(board.sysfs, only_when_discharging=True)


def test_state_of_charge_comes_from_charge_or_energy_where_no_percentage_is_told(board: FakeBoard) -> None:
    folder = board.sysfs / GAUGE
    assert charge_percent(folder) == 76
    board.faults["capacity"] = busy
    assert charge_percent(folder, board.read) is None
    board.put(f"{GAUGE}/charge_now", 1_500_000)
    board.put(f"{GAUGE}/charge_full", 3_000_000)
    assert charge_percent(folder, board.read) == 50
    board.put(f"{GAUGE}/charge_full", 0)
    assert charge_percent(folder, board.read) is None


@pytest.mark.parametrize(("shown", "percent"), [(103, 100.0), (255, None), (-1, None)])
def test_a_gauge_may_show_a_little_more_than_full(
    board: FakeBoard, shown: int, percent: float | None
) -> None:
    for name in ("charge_now", "charge_full", "energy_now", "energy_full"):
        (board.sysfs / GAUGE / name).unlink(missing_ok=True)
    board.put(f"{GAUGE}/capacity", shown)
    assert charge_percent(board.sysfs / GAUGE) == percent


@pytest.mark.parametrize("kind", ["USB_DCP", "USB_PD", "BrickID"])
def test_chargers_of_older_kernels_are_outside_supplies(board: FakeBoard, kind: str) -> None:
    board.put("class/power_supply/charger/type", kind)
    board.put("class/power_supply/charger/online", 1)
    board.put("class/power_supply/charger/voltage_now", 5_000_000)
    with pytest.raises(ValueError, match="outside supply is on"):
        battery_watts(board.sysfs)


def test_a_ups_is_a_battery(board: FakeBoard) -> None:
    board.put(f"{GAUGE}/type", "UPS")
    assert battery_watts(board.sysfs) == pytest.approx(7.612 * 0.903)
