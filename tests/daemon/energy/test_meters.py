from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dance_ondevice.daemon.config.rules import METERS
from dance_ondevice.daemon.config.sections import Energy
from dance_ondevice.daemon.energy.meters import choose_meter, full_load_watts, later_meter
from dance_ondevice.energy.choose import Machine
from dance_ondevice.energy.sensors import MeterUnavailable
from dance_ondevice.energy.sysfs import read_attribute

TREES = Path(__file__).resolve().parents[2] / "energy" / "trees"


def no_command(command: object) -> str:
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def machine(tree: str, *, forbidden: str = "nothing") -> Machine:
    def read(path: Path) -> str:
        if path.name == forbidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return read_attribute(path)

    return Machine(sysfs=TREES / tree / "sys", read=read, run=no_command)


@pytest.mark.parametrize(("tree", "source"), [("orin_nano_jp6", "ina3221"), ("nuc", "rapl")])
def test_auto_takes_a_sensor_where_there_is_one_and_has_nothing_to_warn_of(tree: str, source: str) -> None:
    meter, note = choose_meter(Energy(), lambda: 0.0, machine(tree))
    assert (meter.source, note) == (source, "")


def test_the_root_of_sysfs_is_the_configured_one() -> None:
    energy = Energy(sysfs_root=str(TREES / "agx_orin" / "sys"))
    assert choose_meter(energy, lambda: 0.0)[0].source == "ina3221"


def test_auto_models_where_there_is_none_and_says_what_that_rests_on(tmp_path: Path) -> None:
    nothing = Machine(sysfs=tmp_path, run=no_command)
    meter, note = choose_meter(Energy(), lambda: 0.0, nothing)
    assert (meter.source, meter.method) == ("model", "modelled")
    assert "energy.max_watts" in note
    meter, note = choose_meter(Energy(idle_watts=2, max_watts=9), lambda: 0.0, nothing)
    assert (meter.method, note) == ("modelled", "")


def test_a_meter_that_appears_after_the_start_is_told_of(tmp_path: Path) -> None:
    nothing, board = Machine(sysfs=tmp_path, run=no_command), machine("orin_nano_jp6")
    meter, _ = choose_meter(Energy(), lambda: 0.0, nothing)
    assert later_meter(Energy(), meter, nothing) == ""
    told = later_meter(Energy(), meter, board)
    assert "ina3221" in told.lower()
    assert "restart the service" in told
    assert later_meter(Energy(meter="modelled"), meter, board) == ""
    assert later_meter(Energy(), choose_meter(Energy(), lambda: 0.0, board)[0], board) == ""
    # The supply was cut: after a restart, time on the supply would be unmeasured.
    battery = tmp_path / "class" / "power_supply" / "BAT0"
    battery.mkdir(parents=True)
    for name, text in (("type", "Battery"), ("status", "Discharging"), ("power_now", "9000000")):
        (battery / name).write_text(text)
    assert choose_meter(Energy(), lambda: 0.0, nothing)[0].source == "battery"
    assert later_meter(Energy(), meter, nothing) == ""


def test_auto_names_the_remedy_for_a_better_source_that_may_not_be_read() -> None:
    energy = Energy(idle_watts=2, max_watts=9)
    meter, note = choose_meter(energy, lambda: 0.0, machine("nuc", forbidden="energy_uj"))
    assert meter.method == "modelled"
    assert "Permission denied" in note
    assert "99-dance-ondevice-rapl.rules" in note


def test_modelled_leaves_sensors_alone() -> None:
    meter, _ = choose_meter(Energy(meter="modelled", max_watts=9), lambda: 0.0, machine("nuc"))
    assert meter.source == "model"


def test_a_named_meter_is_taken_or_an_error() -> None:
    assert choose_meter(Energy(meter="battery"), lambda: 0.0, machine("ina226"))[0].source == "battery"
    with pytest.raises(MeterUnavailable, match="class/powercap"):
        choose_meter(Energy(meter="rapl"), lambda: 0.0, machine("ina226"))


def test_full_load_is_never_below_idle() -> None:
    assert full_load_watts(Energy(idle_watts=12, max_watts=9)) == 12
    assert full_load_watts(Energy(idle_watts=3)) > 3


@pytest.mark.parametrize("name", METERS)
def test_every_meter_is_documented(name: str) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "energy.md").read_text()
    assert f'"{name}"' in page or f"| `{name}` |" in page
