"""What else decides whether energy may be spent: the battery's charge and the board's temperature."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dance_ondevice.energy.battery import charge_percent, find_batteries
from dance_ondevice.energy.sysfs import Read, entries, number_or_none, read_attribute


@dataclass(frozen=True)
class Conditions:
    """Readings of the moment; None where the board has no such sensor or it cannot be read.

    Attributes:
        battery_percent: state of charge of the emptiest battery, percent.
        temperature_c: the hottest thermal zone, degrees Celsius.
    """

    battery_percent: float | None
    temperature_c: float | None


def read_conditions(sysfs: Path, read: Read = read_attribute) -> Conditions:
    """Read ``class/power_supply`` and ``class/thermal`` below ``sysfs``.

    A battery counts when its type is Battery, its scope is not Device (a mouse, a headset) and it is present.
    """
    charges = [charge_percent(battery, read) for battery in find_batteries(sysfs, read)]
    zones = [number_or_none(z / "temp", read) for z in entries(sysfs / "class" / "thermal", "thermal_zone")]
    known_charges = [c for c in charges if c is not None]
    # A zone that is off reads 0 or a large negative number; one that is broken reads far above boiling.
    known_zones = [t / 1000 for t in zones if t is not None and -40_000 < t < 200_000 and t != 0]
    return Conditions(min(known_charges, default=None), max(known_zones, default=None))
