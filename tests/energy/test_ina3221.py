from __future__ import annotations

from pathlib import Path

import pytest
from fake_boards import FakeBoard, denied, joules, parts

from dance_ondevice.energy.ina3221 import open_ina3221
from dance_ondevice.energy.sensors import MeterUnavailable


def one_second(board: FakeBoard):
    meter = open_ina3221(board.sysfs, board.read)
    for tick in range(11):
        reading = meter.read(tick / 10)
    return meter, reading


@pytest.mark.parametrize(
    ("tree", "board", "inner"),
    [
        ("orin_nano_jp5", 5.016 * 1.176, {"VDD_CPU_GPU_CV": 5.016 * 0.312, "VDD_SOC": 5.016 * 0.288}),
        ("orin_nano_jp6", 4.960 * 0.968, {"VDD_CPU_GPU_CV": 4.960 * 0.192, "VDD_SOC": 4.960 * 0.256}),
        ("nano_jp4", 2.156, {"POM_5V_GPU": 0.119, "POM_5V_CPU": 0.636}),
    ],
)
def test_the_input_is_the_board_and_the_other_rails_are_parts_of_it(
    tmp_path: Path, tree: str, board: float, inner: dict[str, float]
) -> None:
    meter, reading = one_second(FakeBoard(tree, tmp_path))
    assert joules(reading) == {"board": pytest.approx(board)}
    assert parts(reading) == pytest.approx(inner)
    assert (meter.source, meter.method, meter.period_s) == ("ina3221", "integrated", 0.1)
    assert "feeds the module; the rest of the carrier board" in meter.about
    assert all(name in meter.about for name in inner)


def test_without_an_input_the_rails_are_summed_and_nc_is_none(tmp_path: Path) -> None:
    meter, reading = one_second(FakeBoard("agx_orin", tmp_path))
    assert joules(reading) == pytest.approx(
        {
            "VDD_GPU_SOC": 19.136 * 0.160,
            "VDD_CPU_CV": 19.136 * 0.040,
            "VIN_SYS_5V0": 4.960 * 0.760,
        }
    )
    # The memory's rail is a branch of VIN_SYS_5V0.
    assert parts(reading) == pytest.approx({"VDDQ_VDD2_1V8AO": 4.960 * 0.120})
    assert "none of which" in meter.about


def test_rails_that_are_not_connected_are_left_out_even_when_they_are_on(tmp_path: Path) -> None:
    board = FakeBoard("agx_orin", tmp_path)
    for attribute, value in (("in1_enable", 1), ("in1_input", 4960), ("curr1_input", 500)):
        board.put(f"class/hwmon/hwmon5/{attribute}", value)
    reading = one_second(board)[1]
    assert len((*reading.domains, *reading.breakdown)) == 4


def test_carrier_rails_are_no_parts_of_the_module(tmp_path: Path) -> None:
    board = FakeBoard("orin_nano_jp5", tmp_path)
    board.put("class/hwmon/hwmon3/in3_label", "VDD_5V0_IO_SYS")
    assert parts(one_second(board)[1]).keys() == {"VDD_CPU_GPU_CV"}


def test_iio_without_a_power_file_multiplies(tmp_path: Path) -> None:
    board = FakeBoard("nano_jp4", tmp_path)
    (board.sysfs / "bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input").unlink()
    assert joules(one_second(board)[1]) == {"board": pytest.approx(5.032 * 0.428)}


def test_a_lost_part_costs_no_measured_time(tmp_path: Path) -> None:
    board = FakeBoard("orin_nano_jp5", tmp_path)
    meter = open_ina3221(board.sysfs, board.read)
    board.faults["curr3_input"] = denied
    for tick in range(31):
        reading = meter.read(tick / 10)
    assert reading.unmeasured_seconds == 0
    assert parts(reading)["VDD_SOC"] == 0


def test_what_was_looked_for_is_named(tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailable, match="ina3221x"):
        open_ina3221(FakeBoard("ina226", tmp_path).sysfs)
