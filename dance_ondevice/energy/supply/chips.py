"""The chips of ``/sys/class/hwmon`` and their power channels.

Attributes and units: Documentation/hwmon/sysfs-interface.rst of Linux. ``energyN_input`` in uJ,
``powerN_average`` and ``powerN_input`` in uW, ``inN_input`` in mV, ``currN_input`` in mA, so that
voltage times current is in uW.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from dance_ondevice.energy.supply.channel import Channel
from dance_ondevice.energy.supply.labels import pair_key, plain
from dance_ondevice.energy.sysfs import (
    UNREADABLE,
    Read,
    entries,
    read_attribute,
    read_number,
    text_or_none,
)

_NUMBERED = re.compile(r"(energy|power|in|curr)(\d+)_(input|average)")
_PMBUS = re.compile(r"[vip]((?:in|out)\d*)")
#: The INA3221 has three channels; in4-6 are shunt voltages, in7 and curr4 sums.
_CHANNELS = {"ina3221": (1, 2, 3)}
#: Chips that measure current in both directions, but power without a sign.
_BOTH_WAYS = re.compile(r"(ina2|sy24|sq52|isl28|tsc1641|pac19|ltc29).*")
_IN1_IS_BUS = re.compile(r"(ina2|sy24|sq52|isl28).*")
_IN0_IS_BUS = re.compile(r"(tsc1641|ltc2947).*")
#: Names that Xilinx boards give their sensors by the designator on the schematic, such as ``ina226_u76``.
_DESIGNED = re.compile(r".+[_-]u\d+")


class Chip:
    """One hwmon device.

    The number in ``hwmonN`` may belong to another device after a driver was reloaded, so the device is
    identified by its name and parent, and searched before each sample if it has moved. Drivers that register
    in the old way, such as that of ACPI's power meters before Linux 6.15, keep name and attributes in
    ``hwmonN/device``.
    """

    def __init__(self, folder: Path, read: Read) -> None:
        self._class = folder.parent
        self._folder: Path | None = folder
        self._read = read
        self._inner = "" if text_or_none(folder / "name", read) is not None else "device"
        self.name = read(folder / self._inner / "name")
        self.device = _device(folder)
        self.hwmon = folder.name
        self.attributes = frozenset(path.name for path in entries(folder / self._inner))

    def locate(self) -> None:
        """Find the folder of this chip for the next reads; if it is gone, every read fails."""
        if self._folder is None or not self._is_here(self._folder):
            found = [folder for folder in entries(self._class, "hwmon") if self._is_here(folder)]
            self._folder = found[0] if len(found) == 1 else None

    def number(self, attribute: str) -> float:
        """Read a number; raise ``OSError`` or ``ValueError`` if there is none."""
        if self._folder is None:
            raise OSError(errno.ENODEV, f"the chip {self.name} has gone", str(self._class))
        return read_number(self._folder / self._inner / attribute, self._read)

    def text(self, attribute: str) -> str | None:
        """Read a text; None if there is none."""
        if self._folder is None or attribute not in self.attributes:
            return None
        return text_or_none(self._folder / self._inner / attribute, self._read)

    def enabled(self, *kinds: str) -> bool:
        """Return whether no ``*_enable`` of these (``in1``, ``curr1``) is 0."""
        return all(self.text(f"{kind}_enable") != "0" for kind in kinds)

    def _is_here(self, folder: Path) -> bool:
        return text_or_none(folder / self._inner / "name", self._read) == self.name and (
            _device(folder) == self.device
        )


def find_chips(sysfs: Path, read: Read = read_attribute) -> list[Chip]:
    """Find all chips that can be read."""
    chips = []
    for folder in entries(sysfs / "class" / "hwmon", "hwmon"):
        try:
            chips.append(Chip(folder, read))
        except UNREADABLE:
            continue
    return chips


def channels(chip: Chip) -> list[Channel]:
    """List a chip's channels: energy counters, power without a counter, else voltage times current.

    Energy and power are the same quantity if their labels agree, or their numbers if a label is missing. A
    further counter without a label is another bank of the same measurement.
    """
    numbers = _numbers(chip)
    powers = {n: channel for n in numbers["power"] if (channel := _power(chip, n)) is not None}
    counters = {
        n: _counter(chip, n) for n in numbers["energy"] if _works(chip, f"energy{n}", f"energy{n}_input")
    }
    result, taken = [], set()
    for n, counter in counters.items():
        same = next(
            (
                m
                for m in (n, *powers)
                if m in powers and m not in taken and _agree(counter, powers[m], n == m)
            ),
            None,
        )
        if same is not None:
            taken.add(same)
            spare = powers[same]
            result.append(_merged(counter, spare))
        elif plain(counter.label) or not powers:
            result.append(counter)
    if not powers and len(counters) > 1 and not any(plain(c.label) for c in counters.values()):
        result = result[:1]
    result += [channel for n, channel in powers.items() if n not in taken]
    return result or pairs(chip)


def pairs(chip: Chip) -> list[Channel]:
    """Pair voltages with currents: by label, or by number if one of them has no label."""
    names = chip.attributes
    allowed = _CHANNELS.get(chip.name, range(64))
    volts = {n: _own_label(chip, f"in{n}") for n in allowed if f"in{n}_input" in names}
    amperes = {n: _own_label(chip, f"curr{n}") for n in allowed if f"curr{n}_input" in names}
    volts = {n: label for n, label in volts.items() if "shunt" not in label.lower()}
    matched: list[tuple[int, int]] = []
    for current, label in amperes.items():
        same = [n for n, other in volts.items() if label and other and pair_key(other) == pair_key(label)]
        if len(same) == 1:
            matched.append((same[0], current))
    used_volts, used_amperes = {v for v, _ in matched}, {c for _, c in matched}
    matched += [
        (n, n)
        for n, label in amperes.items()
        if n in volts and n not in used_volts | used_amperes and not (label and volts[n])
    ]
    result = []
    for volt, current in sorted(matched, key=lambda pair: pair[1]):
        label = _pmbus(volts[volt] or amperes[current] or chip.text("label") or "")
        kinds = (f"in{volt}", f"curr{current}")
        if label.upper() != "NC" and _works(chip, *kinds, f"in{volt}_input", f"curr{current}_input"):
            result.append(_channel(chip, label, "power", _product(chip, *kinds), f"in{volt}"))
    return result


def forbidden(chip: Chip) -> str:
    """Return the first value of a chip that this user may not read; empty if there is none."""
    for name in sorted(chip.attributes):
        if _NUMBERED.fullmatch(name):
            try:
                chip.number(name)
            except PermissionError:
                return f"{chip.hwmon}/{name} of {chip.name}"
            except UNREADABLE:
                continue
    return ""


def _numbers(chip: Chip) -> dict[str, list[int]]:
    found: dict[str, set[int]] = {"energy": set(), "power": set(), "in": set(), "curr": set()}
    for name in chip.attributes:
        if match := _NUMBERED.fullmatch(name):
            found[match[1]].add(int(match[2]))
    return {kind: sorted(numbers) for kind, numbers in found.items()}


def _agree(counter: Channel, power: Channel, same_number: bool) -> bool:
    one, other = pair_key(plain(counter.label)), pair_key(plain(power.label))
    return one == other if one and other else same_number


def _merged(counter: Channel, power: Channel) -> Channel:
    label = counter.label if plain(counter.label) else power.label
    return Channel(**{**counter.__dict__, "label": label, "spare": power, "volts": power.volts})


def _counter(chip: Chip, n: int) -> Channel:
    return _channel(
        chip, _label(chip, f"energy{n}"), "energy", _micro(chip, f"energy{n}", f"energy{n}_input")
    )


def _power(chip: Chip, n: int) -> Channel | None:
    """Make a power channel of its average, else of its last value, whichever is not 0."""
    working = [name for name in (f"power{n}_average", f"power{n}_input") if _works(chip, f"power{n}", name)]
    if not working:
        return None
    best = next((name for name in working if _shows(chip, name)), working[0])
    value = _micro(chip, f"power{n}", best)
    if f"curr{n}_input" in chip.attributes and _BOTH_WAYS.fullmatch(chip.name):
        value = _signed(chip, value, f"curr{n}_input")
    label = _label(chip, f"power{n}") or _pmbus(chip.text(f"power{n}_oem_info") or "")
    battery = chip.text(f"power{n}_is_battery") not in (None, "0")
    return _channel(chip, label, "power", value, _bus(chip), in_battery=battery)


def _bus(chip: Chip) -> str:
    """Return the attribute with the voltage of the line that a chip measures; ``""`` if unknown.

    The INA2xx have it in in1 and the shunt in in0; in others in1 may be the supply of the chip itself.
    """
    name = "in1" if _IN1_IS_BUS.fullmatch(chip.name) else "in0" if _IN0_IS_BUS.fullmatch(chip.name) else ""
    return name if f"{name}_input" in chip.attributes else ""


def _channel(
    chip: Chip,
    label: str,
    kind: Literal["energy", "power"],
    value: Callable[[], float],
    bus: str = "",
    *,
    in_battery: bool = False,
) -> Channel:
    return Channel(
        label=label,
        chip=chip.name,
        kind=kind,
        value=value,
        device=chip.hwmon,
        volts=(lambda: chip.number(f"{bus}_input") / 1e3) if bus else None,
        in_battery=in_battery,
        designed=_DESIGNED.fullmatch(chip.name) is not None,
    )


def _micro(chip: Chip, kind: str, attribute: str) -> Callable[[], float]:
    def value() -> float:
        if not chip.enabled(kind):
            raise ValueError(f"{chip.name} {kind} is switched off")
        return chip.number(attribute) / 1e6

    return value


def _signed(chip: Chip, watts: Callable[[], float], current: str) -> Callable[[], float]:
    """Make a function that reads power with the sign of the current, which power registers do not have."""

    def value() -> float:
        power = watts()
        return -abs(power) if chip.number(current) < 0 else power

    return value


def _product(chip: Chip, volt: str, current: str) -> Callable[[], float]:
    def value() -> float:
        if not chip.enabled(volt, current):
            raise ValueError(f"{chip.name} {volt} is switched off")
        return chip.number(f"{volt}_input") * chip.number(f"{current}_input") / 1e6

    return value


def _shows(chip: Chip, attribute: str) -> bool:
    try:
        return chip.number(attribute) > 0
    except UNREADABLE:
        return False


def _works(chip: Chip, *names: str) -> bool:
    """Return whether channels (``in1``) are switched on and attributes (``in1_input``) can be read."""
    if not chip.enabled(*(name for name in names if "_" not in name)):
        return False
    for name in names:
        if "_" in name:
            try:
                chip.number(name)
            except BlockingIOError:  # busy is there
                continue
            except UNREADABLE:
                return False
    return True


def _own_label(chip: Chip, kind: str) -> str:
    return chip.text(f"{kind}_label") or ""


def _label(chip: Chip, kind: str) -> str:
    """Return the channel's label, else the chip's; the quantity's letter is removed from PMBus names."""
    own = _own_label(chip, kind)
    return _pmbus(own if plain(own) else chip.text("label") or own)


def _pmbus(label: str) -> str:
    match = _PMBUS.fullmatch(label)
    return match[1] if match else label


def _device(folder: Path) -> str:
    """Return the device that a hwmon folder belongs to, such as ``1-0040``; empty if unknown."""
    try:
        return (folder / "device").readlink().name
    except OSError:
        return ""
