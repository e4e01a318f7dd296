"""Condition of the board: battery, temperature, supply and clock, which decide whether a round may run.

A round on a supply with too low a voltage can crash a Raspberry Pi.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dance_ondevice.energy.battery import find_batteries, total_charge_percent
from dance_ondevice.energy.sysfs import Read, entries, number_or_none, read_attribute, text_or_none

#: Bits of the firmware's get_throttled word for the present moment, from the documentation of vcgencmd.
#: Bit 3, the soft temperature limit of the 3B+, is left out: it is reached at 60 °C and costs little speed.
_NOW = {
    0x1: "the supply's voltage is too low",
    0x2: "the firmware has capped the processor's clock",
    0x4: "the firmware throttles the processor",
}
#: Types of thermal zones that are no sensors: on Jetsons up to Xavier this one always reads 100 °C.
_NO_SENSORS = frozenset({"PMIC-Die"})
#: hwmon chips of processors, which count where there is no thermal zone, as on many computers with AMD's.
_PROCESSORS = frozenset({"k10temp", "zenpower", "coretemp", "cpu_thermal"})


@dataclass(frozen=True)
class Conditions:
    """Present battery charge and temperature; None if the board has no such sensor or it cannot be read.

    Attributes:
        battery_percent: Charge of all batteries together, in percent.
        temperature_c: Temperature of the hottest thermal zone, else of the processor, in degrees Celsius.
    """

    battery_percent: float | None
    temperature_c: float | None


def read_conditions(sysfs: Path, read: Read = read_attribute) -> Conditions:
    """Read ``class/power_supply``, ``class/thermal`` and, where no zone counts, ``class/hwmon``.

    A battery counts when its type is Battery, its scope is not Device (a mouse, a headset) and it is present.
    """
    zones = [
        zone / "temp"
        for zone in entries(sysfs / "class" / "thermal", "thermal_zone")
        if text_or_none(zone / "type", read) not in _NO_SENSORS
    ]
    hottest = _hottest(zones, read)
    if hottest is None:
        hottest = _hottest(_processor_sensors(sysfs, read), read)
    return Conditions(total_charge_percent(find_batteries(sysfs, read), read), hottest)


def _hottest(sensors: Sequence[Path], read: Read) -> float | None:
    """Return the highest of temperatures in millidegrees, in degrees Celsius; None without any."""
    found = [number_or_none(sensor, read) for sensor in sensors]
    # A zone that is off reads 0 or a large negative number; one that is broken reads far above boiling.
    return max((t / 1000 for t in found if t is not None and -40_000 < t < 200_000 and t != 0), default=None)


def _processor_sensors(sysfs: Path, read: Read) -> list[Path]:
    """Return the sensors of the processor's chips; Tctl, which steers a fan, only where Tdie is missing."""
    chips = [
        chip
        for chip in entries(sysfs / "class" / "hwmon", "hwmon")
        if text_or_none(chip / "name", read) in _PROCESSORS
    ]
    labels = {
        sensor: text_or_none(sensor.with_name(sensor.name.replace("_input", "_label")), read)
        for chip in chips
        for sensor in entries(chip, "temp")
        if sensor.name.endswith("_input")
    }
    left_out = "Tctl" if "Tdie" in labels.values() else None
    return [sensor for sensor, label in labels.items() if left_out is None or label != left_out]


def read_hindrances(sysfs: Path, read: Read = read_attribute) -> tuple[str, ...]:
    """Return reasons in words why this board should not be loaded now; empty if there are none or unknown.

    It reads the hwmon chip ``rpi_volt`` (``in0_lcrit_alarm``), and ``get_throttled`` of the firmware's device
    if the kernel has it.
    """
    found: list[str] = []
    for chip in entries(sysfs / "class" / "hwmon", "hwmon"):
        if text_or_none(chip / "name", read) == "rpi_volt" and number_or_none(chip / "in0_lcrit_alarm", read):
            found.append(_NOW[0x1])
    for word in sorted((sysfs / "devices" / "platform").glob("soc*/soc*:firmware/get_throttled")):
        try:
            bits = int(text_or_none(word, read) or "", 16)
        except ValueError:
            continue
        found.extend(text for bit, text in _NOW.items() if bits & bit and text not in found)
    return tuple(found)
