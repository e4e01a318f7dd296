from __future__ import annotations

from pathlib import Path

import pytest
from fake_boards import PMIC_OUTPUT, FakeBoard, denied, no_command

from dance_ondevice.energy.choose import SOURCES, Machine, best_meter
from dance_ondevice.energy.sensors import MeterUnavailable


def machine(board: FakeBoard, output: str = "") -> Machine:
    run = (lambda command: output) if output else no_command
    return Machine(sysfs=board.sysfs, read=board.read, run=run)


@pytest.mark.parametrize(
    ("tree", "output", "source"),
    [
        ("orin_nano_jp5", "", "ina3221"),
        ("orin_nano_jp6", "", "ina3221"),
        ("agx_orin", "", "ina3221"),
        ("nano_jp4", "", "ina3221"),
        ("nuc", "", "rapl"),
        ("amd", "", "rapl"),
        ("pi5", PMIC_OUTPUT, "pmic"),
        ("ina226", "", "hwmon"),
    ],
)
def test_each_board_gets_its_best_source(tmp_path: Path, tree: str, output: str, source: str) -> None:
    meter, _ = best_meter(machine(FakeBoard(tree, tmp_path), output))
    assert meter is not None
    assert meter.source == source
    assert meter.about


def test_a_battery_is_chosen_while_it_discharges(tmp_path: Path) -> None:
    board = FakeBoard("ina226", tmp_path)
    board.faults["power1_input"] = denied
    board.faults["curr1_input"] = denied
    meter, _ = best_meter(machine(board))
    assert meter is not None
    assert meter.source == "battery"
    board.put("class/power_supply/max17042_battery/status", "Charging")
    assert best_meter(machine(board))[0] is None


def test_what_could_be_had_with_rights_is_told(tmp_path: Path) -> None:
    board = FakeBoard("nuc", tmp_path)
    board.faults["energy_uj"] = denied
    meter, passed = best_meter(machine(board))
    assert meter is None
    assert [error.source for error in passed if error.remedy] == ["rapl"]


@pytest.mark.parametrize("name", SOURCES)
def test_a_named_source_that_is_not_there_says_what_was_looked_for(tmp_path: Path, name: str) -> None:
    nothing = Machine(sysfs=tmp_path, run=no_command)
    with pytest.raises(MeterUnavailable, match=rf"energy meter {name}: .{{20,}}") as error:
        SOURCES[name](nothing)
    assert error.value.source == name
