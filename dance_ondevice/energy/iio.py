"""Power meters of the industrial I/O subsystem: PAC193x and similar, and INA2xx bound to their iio driver.

``/sys/bus/iio/devices/iio:deviceN/in_powerY_raw`` times ``in_powerY_scale`` is in mW by
Documentation/ABI/testing/sysfs-bus-iio of Linux. The driver of the PAC193x prints uW (the comment in
drivers/iio/adc/pac1934.c says so), and its energy counter follows no unit of that page: power is read, in the
unit that agrees with voltage times current of the same channel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from dance_ondevice.energy.battery import find_batteries
from dance_ondevice.energy.reading import SourceMeter
from dance_ondevice.energy.sensors import MeterUnavailable
from dance_ondevice.energy.supply.channel import Channel
from dance_ondevice.energy.supply.whole import choices, meter_of_best
from dance_ondevice.energy.sysfs import (
    UNREADABLE,
    Read,
    entries,
    number_or_none,
    read_attribute,
    read_number,
    text_or_none,
)

_POWER = re.compile(r"in_power(\d*)_(raw|input)")
#: Drivers that another source reads: NVIDIA's own, see ina3221.
_ELSEWHERE = frozenset({"ina3221x"})
#: Drivers that print uW although the interface defines mW.
_MICROWATTS = re.compile(r"pac19[345]\d")
#: What the PAC193x's driver appends to the label of a channel.
_SUFFIX = re.compile(r"_POWER_\d+")
#: Ratio of the power's figure to millivolts times milliamperes that separates uW (ratio 1) from mW (1/1000).
_BETWEEN = 0.03
_MILLI, _MICRO = 1e-3, 1e-6
#: Largest figure in mW: a rail of a board draws less than 100 W, so a larger figure is in uW.
_LARGEST_MILLIWATTS = 1e5


def open_iio(sysfs: Path, read: Read = read_attribute) -> SourceMeter:
    """Open the power channels of all iio devices.

    Raises:
        MeterUnavailable: No channel works.
    """
    folder = sysfs / "bus" / "iio" / "devices"
    found = [channel for device in entries(folder, "iio:device") for channel in _channels(device, read)]
    options, dropped = choices(found, battery=bool(find_batteries(sysfs, read)))
    if not options:
        found_words = "; ".join(dropped) or f"no device with in_power*_raw that can be read in {folder}"
        raise MeterUnavailable("iio", found_words)
    chips = ", ".join(dict.fromkeys(channel.chip for channel in found))
    return meter_of_best("iio", options, lambda _: f"iio power meters {chips}", dropped=dropped)


def _channels(device: Path, read: Read) -> list[Channel]:
    chip = text_or_none(device / "name", read) or device.name
    if chip in _ELSEWHERE:
        return []
    names = {path.name for path in entries(device)}
    numbers = sorted({match[1] for name in names if (match := _POWER.fullmatch(name))})
    lines = {n: _beside(names, n) for n in numbers}
    unit = _unit(chip, device, lines, read)
    result = []
    for n, (volts, _) in lines.items():
        value = _scaled(device, f"in_power{n}", read, unit)
        try:
            value()
        except BlockingIOError:  # busy is there
            pass
        except UNREADABLE:
            continue
        label = text_or_none(device / f"in_power{n}_label", read) or text_or_none(device / "label", read)
        line = _scaled(device, volts, read, _MILLI) if volts else None
        named = _SUFFIX.sub("", label or "")
        result.append(Channel(named, chip, "power", value, device=device.name, volts=line))
    return result


def _beside(names: set[str], n: str) -> tuple[str, str]:
    """Return the voltage and the current that belong to a power channel, ``""`` if that is not clear.

    They have the same number; an INA2xx has one of each with other numbers, and its voltage 0 is the shunt's.
    """

    def stems(kind: str) -> list[str]:
        return sorted({m[1] for name in names if (m := re.fullmatch(rf"(in_{kind}\d*)_(raw|input)", name))})

    volts, amperes = stems("voltage"), stems("current")
    if f"in_voltage{n}" in volts and f"in_current{n}" in amperes:
        return f"in_voltage{n}", f"in_current{n}"
    if len(stems("power")) == len(amperes) == 1 and volts:
        return volts[-1], amperes[0]
    return "", ""


def _unit(chip: str, device: Path, lines: Mapping[str, tuple[str, str]], read: Read) -> float:
    """Return the watts of one unit of a device's scaled power: by voltage times current, else by its size."""

    def scaled(stem: str) -> float:
        try:
            return abs(_scaled(device, stem, read, 1.0)())
        except UNREADABLE:
            return 0.0

    powers = {n: scaled(f"in_power{n}") for n in lines}
    for n, (volts, amperes) in lines.items():
        product = scaled(volts) * scaled(amperes) if volts and amperes else 0.0
        if product > 0 and powers[n] > 0:
            return _MICRO if powers[n] / product > _BETWEEN else _MILLI
    micro = _MICROWATTS.fullmatch(chip) and max(powers.values(), default=0.0) > _LARGEST_MILLIWATTS
    return _MICRO if micro else _MILLI


def _scaled(device: Path, stem: str, read: Read, unit: float) -> Callable[[], float]:
    """Make a function that reads ``stem`` times a unit: as processed by the driver, or raw and scaled."""
    processed, raw = device / f"{stem}_input", device / f"{stem}_raw"
    scales = (device / f"{stem}_scale", device / f"{stem.rstrip('0123456789')}_scale")
    offset = number_or_none(device / f"{stem}_offset", read) or 0.0

    def value() -> float:
        try:
            return read_number(processed, read) * unit
        except FileNotFoundError:
            scale = next((s for path in scales if (s := number_or_none(path, read)) is not None), 1.0)
            return (read_number(raw, read) + offset) * scale * unit

    return value
