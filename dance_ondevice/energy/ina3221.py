"""The INA3221 of Jetson boards: three rails for each chip, through hwmon or, before JetPack 5, through iio.

Rail names are NVIDIA's ("Jetson Linux Developer Guide", section "Software-Based Power Consumption Modeling").
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dance_ondevice.energy.reading import SourceMeter
from dance_ondevice.energy.sensors import MeterUnavailable
from dance_ondevice.energy.supply.channel import Channel
from dance_ondevice.energy.supply.chips import find_chips, pairs
from dance_ondevice.energy.supply.whole import choices, meter_of_best
from dance_ondevice.energy.sysfs import UNREADABLE, Read, entries, read_attribute, read_number, text_or_none

#: Rails of the TX1's and TX2's carrier board, which are not parts of the module's VDD_IN.
_CARRIER_RAILS = frozenset(
    {"VDD_MUX", "VDD_5V0_IO_SYS", "VDD_3V3_SYS", "VDD_3V3_IO_SLP", "VDD_1V8_IO", "VDD_3V3_SYS_M2"}
)
_NOT_CONNECTED = frozenset({"", "NC"})


def open_ina3221(sysfs: Path, read: Read = read_attribute) -> SourceMeter:
    """Open the rails of all INA3221: the board's input with the others as its parts, else the sum of all.

    Raises:
        MeterUnavailable: There is no chip, or no rail that works.
    """
    chips = [chip for chip in find_chips(sysfs, read) if chip.name == "ina3221"]
    rails = [rail for chip in chips for rail in pairs(chip)] or _iio_rails(sysfs, read)
    if not rails:
        places = f"{sysfs / 'class/hwmon'} (name ina3221) and {sysfs / 'bus/i2c/drivers/ina3221x'} (iio)"
        raise MeterUnavailable("ina3221", f"no rail that can be read in {places}")
    if any(rail.is_board for rail in rails):
        rails = [rail for rail in rails if rail.label not in _CARRIER_RAILS]
    options, dropped = choices(rails)
    if not options:
        raise MeterUnavailable("ina3221", "; ".join(dropped) or "none of its rails shows power")

    def locate() -> None:
        for chip in chips:
            chip.locate()

    return meter_of_best("ina3221", options, lambda _: "INA3221", dropped=dropped, locate=locate)


def _iio_rails(sysfs: Path, read: Read) -> list[Channel]:
    """Read ``ina3221x/6-0040/iio:device0/{rail_name_0,in_power0_input,...}``, in mW, mV and mA."""
    rails = []
    seen: set[Path] = set()
    for device in entries(sysfs / "bus" / "i2c" / "drivers" / "ina3221x"):
        for folder in entries(device, "iio"):
            if folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            for n in range(3):
                label = text_or_none(folder / f"rail_name_{n}", read)
                if label is None or label.upper() in _NOT_CONNECTED:
                    continue
                value = _milliwatts(folder, n, read)
                try:
                    value()
                except BlockingIOError:  # busy is there
                    pass
                except UNREADABLE:
                    continue
                rails.append(Channel(label, "ina3221", "power", value))
    return rails


def _milliwatts(folder: Path, n: int, read: Read) -> Callable[[], float]:
    power = folder / f"in_power{n}_input"
    volts, current = folder / f"in_voltage{n}_input", folder / f"in_current{n}_input"

    def value() -> float:
        try:
            return read_number(power, read) / 1e3
        except FileNotFoundError:
            return read_number(volts, read) * read_number(current, read) / 1e6

    return value
