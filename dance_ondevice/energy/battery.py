"""What batteries give, and how full they are: ``/sys/class/power_supply``.

Units are uV, uA and uW (Documentation/ABI/testing/sysfs-class-power of Linux). The sign of a current is
negative while discharging by that page, but drivers differ, so only the amount is taken and ``status`` says
which way it flows.
"""

from __future__ import annotations

from pathlib import Path

from dance_ondevice.energy.sensors import COUNTER_PERIOD_S, MeterUnavailable, Sample, SensorMeter
from dance_ondevice.energy.sysfs import (
    UNREADABLE,
    Read,
    entries,
    number_or_none,
    read_attribute,
    read_number,
    reason,
    text_or_none,
)
from dance_ondevice.energy.tracks import PowerTrack

#: Fuel gauges average over a second or more; sampling them faster says nothing new.
_MAX_GAP_S = 5.0
DOMAIN = "board"


def find_batteries(sysfs: Path, read: Read = read_attribute) -> list[Path]:
    """Batteries that feed the board: not those of a mouse or a headset (scope Device), not absent ones."""
    return [
        supply
        for supply in entries(sysfs / "class" / "power_supply")
        if text_or_none(supply / "type", read) == "Battery"
        and text_or_none(supply / "scope", read) != "Device"
        and text_or_none(supply / "present", read) != "0"
    ]


def charge_percent(battery: Path, read: Read = read_attribute) -> float | None:
    """State of charge, percent; from ``capacity``, else energy or charge now and full; None if unknown."""
    percent = number_or_none(battery / "capacity", read)
    for quantity in ("energy", "charge"):
        if percent is None:
            now = number_or_none(battery / f"{quantity}_now", read)
            full = number_or_none(battery / f"{quantity}_full", read)
            percent = 100 * now / full if now is not None and full else None
    return percent if percent is not None and 0 <= percent <= 100 else None


def battery_watts(sysfs: Path, read: Read = read_attribute) -> float:
    """What the batteries give to the board.

    Raises:
        OSError: a gauge cannot be read.
        ValueError: they do not feed it alone (charging, or mains is on), or a gauge says nothing of use.
    """
    batteries = find_batteries(sysfs, read)
    states = {battery: text_or_none(battery / "status", read) for battery in batteries}
    if _mains_is_on(sysfs, read):
        raise ValueError("an outside supply is on, so the batteries do not feed the board alone")
    if any(state not in ("Discharging", "Not charging", "Full") for state in states.values()):
        raise ValueError(f"not discharging: {', '.join(str(s) for s in states.values())}")
    feeding = [battery for battery, state in states.items() if state == "Discharging"]
    watts = sum(_watts(battery, read) for battery in feeding)
    if watts <= 0:  # a gauge that is not ready reads 0, and a board never does
        raise ValueError("no battery is discharging")
    return watts


def open_battery(
    sysfs: Path, read: Read = read_attribute, *, only_when_discharging: bool = False
) -> SensorMeter:
    """The batteries as a meter of the whole board, valid while they discharge.

    Args:
        sysfs: root of sysfs.
        read: reads an attribute.
        only_when_discharging: refuse when there is nothing to measure at this moment.

    Raises:
        MeterUnavailable: there is no battery that tells its power.
    """
    batteries = find_batteries(sysfs, read)
    folder = sysfs / "class" / "power_supply"
    if not batteries:
        raise MeterUnavailable("battery", f"no battery that feeds the board in {folder}")
    silent = [battery.name for battery in batteries if not _tells_power(battery, read)]
    if silent:
        found = f"{folder / silent[0]} has neither power_now nor current_now and voltage_now"
        raise MeterUnavailable("battery", found)
    if only_when_discharging:
        try:
            battery_watts(sysfs, read)
        except UNREADABLE as error:
            raise MeterUnavailable("battery", reason(error)) from error

    def sample() -> Sample:
        try:
            return Sample({DOMAIN: battery_watts(sysfs, read)})
        except UNREADABLE as error:
            return Sample({}, {DOMAIN: reason(error)})

    return SensorMeter(
        source="battery",
        about=f"what {', '.join(b.name for b in batteries)} gives; time on an outside supply is unmeasured",
        period_s=COUNTER_PERIOD_S,
        sample=sample,
        whole={DOMAIN: PowerTrack(_MAX_GAP_S)},
    )


def _watts(battery: Path, read: Read) -> float:
    for suffix in ("now", "avg"):
        if (battery / f"power_{suffix}").exists():
            return abs(read_number(battery / f"power_{suffix}", read)) / 1e6
        if (battery / f"current_{suffix}").exists():
            volts = "avg" if suffix == "avg" and (battery / "voltage_avg").exists() else "now"
            amperes = abs(read_number(battery / f"current_{suffix}", read)) / 1e6
            return amperes * read_number(battery / f"voltage_{volts}", read) / 1e6
    raise ValueError(f"{battery.name} tells neither power nor current")


def _tells_power(battery: Path, read: Read) -> bool:
    names = {path.name for path in entries(battery)}
    if names & {"power_now", "power_avg"}:
        return True
    return bool(names & {"current_now", "current_avg"}) and bool(names & {"voltage_now", "voltage_avg"})


def _mains_is_on(sysfs: Path, read: Read) -> bool:
    return any(
        text_or_none(supply / "type", read) in ("Mains", "USB", "Wireless")
        and text_or_none(supply / "scope", read) != "Device"
        and text_or_none(supply / "online", read) not in (None, "0")
        for supply in entries(sysfs / "class" / "power_supply")
    )
