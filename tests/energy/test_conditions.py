from __future__ import annotations

from pathlib import Path

from dance_ondevice.energy.board import Conditions, read_conditions


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_board_without_sensors_knows_nothing(tmp_path: Path) -> None:
    assert read_conditions(tmp_path) == Conditions(None, None)


def test_the_hottest_zone_and_the_emptiest_battery_count(tmp_path: Path) -> None:
    put(tmp_path / "class/thermal/thermal_zone0/temp", "45000\n")
    put(tmp_path / "class/thermal/thermal_zone1/temp", "71500\n")
    put(tmp_path / "class/thermal/cooling_device0/temp", "99000\n")
    for name, charge in (("BAT0", "80"), ("BAT1", "35")):
        put(tmp_path / f"class/power_supply/{name}/type", "Battery\n")
        put(tmp_path / f"class/power_supply/{name}/capacity", charge)
    assert read_conditions(tmp_path) == Conditions(35.0, 71.5)


def test_mains_mice_and_broken_sensors_do_not_count(tmp_path: Path) -> None:
    put(tmp_path / "class/power_supply/AC/type", "Mains\n")
    put(tmp_path / "class/power_supply/AC/capacity", "1")
    put(tmp_path / "class/power_supply/mouse/type", "Battery\n")
    put(tmp_path / "class/power_supply/mouse/scope", "Device\n")
    put(tmp_path / "class/power_supply/mouse/capacity", "2")
    put(tmp_path / "class/power_supply/BAT0/type", "Battery\n")
    put(tmp_path / "class/power_supply/BAT0/capacity", "full")
    put(tmp_path / "class/thermal/thermal_zone0/temp", "-274000")
    put(tmp_path / "class/thermal/thermal_zone1/temp", "garbage")
    (tmp_path / "class/thermal/thermal_zone2").mkdir()
    assert read_conditions(tmp_path) == Conditions(None, None)


def test_a_zone_that_is_no_sensor_does_not_count(tmp_path: Path) -> None:
    """A Jetson Nano: its PMIC-Die stands at 100 °C, at which no round would ever start."""
    zones = [("AO-therm", 41500), ("CPU-therm", 34000), ("PMIC-Die", 100000), ("thermal-fan-est", 33000)]
    for number, (kind, temperature) in enumerate(zones):
        put(tmp_path / f"class/thermal/thermal_zone{number}/type", f"{kind}\n")
        put(tmp_path / f"class/thermal/thermal_zone{number}/temp", f"{temperature}\n")
    assert read_conditions(tmp_path).temperature_c == 41.5


def test_without_a_zone_the_processors_own_sensor_counts(tmp_path: Path) -> None:
    """A mini PC with a Ryzen: no thermal zone, and Tctl is above the temperature on some of them."""
    put(tmp_path / "class/hwmon/hwmon0/name", "nvme\n")
    put(tmp_path / "class/hwmon/hwmon0/temp1_input", "90000\n")
    put(tmp_path / "class/hwmon/hwmon1/name", "k10temp\n")
    put(tmp_path / "class/hwmon/hwmon1/temp1_input", "85250\n")
    put(tmp_path / "class/hwmon/hwmon1/temp1_label", "Tctl\n")
    assert read_conditions(tmp_path).temperature_c == 85.25
    put(tmp_path / "class/hwmon/hwmon1/temp2_input", "58250\n")
    put(tmp_path / "class/hwmon/hwmon1/temp2_label", "Tdie\n")
    assert read_conditions(tmp_path).temperature_c == 58.25
    put(tmp_path / "class/thermal/thermal_zone0/temp", "45000\n")
    assert read_conditions(tmp_path).temperature_c == 45.0
