from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fake_boards import FakeBoard, busy, denied, joules, parts

from dance_ondevice.energy.hwmon import channels, find_chips, open_hwmon
from dance_ondevice.energy.sensors import MeterUnavailable


def chip(sysfs: Path, number: int, name: str, **attributes: object) -> Path:
    folder = sysfs / f"class/hwmon/hwmon{number}"
    folder.mkdir(parents=True, exist_ok=True)
    for attribute, value in {"name": name, **attributes}.items():
        (folder / attribute).write_text(f"{value}\n")
    return folder


def watts(meter, seconds: float = 1.0) -> dict[str, float]:
    """Joules by domain of so many seconds at the power that the files tell."""
    now = 0.0
    meter.read(now)
    while now < seconds:
        now += 0.1
        reading = meter.read(now)
    return {name: used / now for name, used in joules(reading).items()}


def test_an_ina226_is_read_by_its_power_register(tmp_path: Path) -> None:
    meter = open_hwmon(FakeBoard("ina226", tmp_path).sysfs)
    assert watts(meter) == {"ina226": pytest.approx(7.35)}
    assert (meter.source, meter.method, meter.period_s) == ("hwmon", "integrated", 0.1)
    assert "none of which is known to feed the whole board" in meter.about


@pytest.mark.parametrize(
    ("without", "kind", "value"),
    [
        ((), "energy", 3.0),
        (("energy1_input",), "power", 2.0),
        (("energy1_input", "power1_average"), "power", 1.5),
        (("energy1_input", "power1_average", "power1_input"), "power", 1.0),
    ],
)
def test_energy_goes_before_average_power_before_power_before_voltage_times_current(
    tmp_path: Path, without: tuple[str, ...], kind: str, value: float
) -> None:
    everything = {
        "energy1_input": 3_000_000,
        "power1_average": 2_000_000,
        "power1_input": 1_500_000,
        "in1_input": 5000,
        "curr1_input": 200,
    }
    chip(tmp_path, 0, "ina228", **{k: v for k, v in everything.items() if k not in without})
    [found] = channels(find_chips(tmp_path)[0])
    assert (found.kind, found.value()) == (kind, value)


def test_an_energy_counter_makes_a_counting_meter(tmp_path: Path) -> None:
    folder = chip(tmp_path, 0, "ina228", energy1_input=1_000_000, energy1_label="VIN")
    meter = open_hwmon(tmp_path)
    meter.read(0.0)
    (folder / "energy1_input").write_text("13000000")
    assert joules(meter.read(2.0)) == {"board": pytest.approx(12)}
    assert (meter.method, meter.period_s) == ("counter", 1.0)


def test_voltage_and_current_pair_by_label_before_number(tmp_path: Path) -> None:
    chip(
        tmp_path,
        0,
        "lm25066",
        in1_input=12_000,
        in1_label="vin",
        in2_input=5_000,
        in2_label="vout1",
        curr1_input=2_000,
        curr1_label="iout1",
        curr2_input=1_000,
        curr2_label="iin",
    )
    meter = open_hwmon(tmp_path, any_chip=True)
    # What goes in is the board; what comes out of the regulator was in there already.
    assert watts(meter) == {"board": pytest.approx(12.0)}
    assert parts(meter.read(5.0)).keys() == {"out1"}


def test_shunt_voltages_are_no_supply(tmp_path: Path) -> None:
    chip(tmp_path, 0, "ina219", in0_input=12, in1_input=5000, curr1_input=600)
    assert watts(open_hwmon(tmp_path)) == {"ina219": pytest.approx(3.0)}


def test_a_channel_that_is_switched_off_is_none_and_later_is_not_measured(tmp_path: Path) -> None:
    folder = chip(tmp_path, 0, "ina238", in1_input=5000, curr1_input=1000, in1_enable=0)
    with pytest.raises(MeterUnavailable, match="ina238"):
        open_hwmon(tmp_path)
    (folder / "in1_enable").write_text("1")
    meter = open_hwmon(tmp_path)
    meter.read(0.0)
    (folder / "in1_enable").write_text("0")
    for tick in range(1, 31):
        reading = meter.read(tick / 10)
    assert (reading.joules, reading.unmeasured_seconds) == (0, pytest.approx(3.0))


def test_a_busy_sensor_is_bridged(tmp_path: Path) -> None:
    board = FakeBoard("ina226", tmp_path)
    board.faults["power1_input"] = busy
    meter = open_hwmon(board.sysfs, board.read)
    del board.faults["power1_input"]
    for tick in range(10):
        if tick == 4:
            board.faults["power1_input"] = busy
        reading = meter.read(tick / 10)
        board.faults.clear()
    assert (reading.joules, reading.unmeasured_seconds) == (pytest.approx(0.9 * 7.35), 0)


def test_a_chip_is_found_again_under_another_number_and_never_mistaken_for_its_successor(
    tmp_path: Path,
) -> None:
    board = FakeBoard("ina226", tmp_path)
    meter = open_hwmon(board.sysfs)
    meter.read(0.0)
    folder = board.sysfs / "class/hwmon"
    (folder / "hwmon2").rename(folder / "away")
    chip(board.sysfs, 2, "ina226", power1_input=99_000_000)  # another INA226, of another device
    for tick in range(1, 21):
        reading = meter.read(tick / 10)
    assert (reading.joules, reading.unmeasured_seconds) == (0, pytest.approx(2.0))
    (folder / "away").rename(folder / "hwmon7")
    meter.read(2.1)
    assert meter.read(2.2).joules == pytest.approx(0.735)


def test_batteries_graphics_cards_and_temperatures_are_no_meters_of_the_board(tmp_path: Path) -> None:
    for tree in ("amd", "nuc", "pi5"):
        with pytest.raises(MeterUnavailable):
            open_hwmon(FakeBoard(tree, tmp_path).sysfs, any_chip=True)
    board = FakeBoard("ina226", tmp_path)
    shutil.rmtree(board.sysfs / "class/hwmon/hwmon2")
    with pytest.raises(MeterUnavailable, match="no chip"):
        open_hwmon(board.sysfs, any_chip=True)


def test_chips_that_nobody_knows_are_taken_by_name_only(tmp_path: Path) -> None:
    chip(tmp_path, 0, "newchip", power1_input=4_000_000, power1_label="VDD_IN")
    with pytest.raises(MeterUnavailable, match="newchip"):
        open_hwmon(tmp_path)
    assert watts(open_hwmon(tmp_path, any_chip=True)) == {"board": pytest.approx(4.0)}


def test_two_chips_without_labels_are_summed_under_different_names(tmp_path: Path) -> None:
    chip(tmp_path, 0, "ina219", power1_input=1_000_000)
    chip(tmp_path, 1, "ina219", power1_input=2_000_000)
    assert watts(open_hwmon(tmp_path)) == {"ina219": pytest.approx(1), "ina219-2": pytest.approx(2)}


def test_the_power_meter_of_acpi_is_the_whole_machine(tmp_path: Path) -> None:
    chip(tmp_path, 0, "power_meter", power1_average=84_000_000)
    assert watts(open_hwmon(tmp_path)) == {"board": pytest.approx(84)}


def test_a_voltage_that_is_labelled_as_a_shunt_is_paired_with_nothing(tmp_path: Path) -> None:
    chip(tmp_path, 0, "ina238", in1_input=8880, in1_label="sum of shunt voltages", curr1_input=1776)
    with pytest.raises(MeterUnavailable):
        open_hwmon(tmp_path)


def test_a_clock_that_goes_back_is_no_time(tmp_path: Path) -> None:
    meter = open_hwmon(FakeBoard("ina226", tmp_path).sysfs)
    for now in (10.0, 10.5, 10.2, 10.5, 11.0):
        reading = meter.read(now)
    assert (reading.joules, reading.unmeasured_seconds) == (pytest.approx(7.35), 0)


def test_a_chip_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    board = FakeBoard("ina226", tmp_path)
    board.faults = dict.fromkeys(("power1_input", "curr1_input", "in1_input"), denied)
    with pytest.raises(MeterUnavailable, match="this user may not read") as raised:
        open_hwmon(board.sysfs, board.read)
    assert "udev rule" in raised.value.remedy
