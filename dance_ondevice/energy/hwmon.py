"""Power sensors of ``/sys/class/hwmon``: INA219, INA226 and their kin, ACPI power meters, PMBus supplies.

Attributes and units: Documentation/hwmon/sysfs-interface.rst of Linux. ``energyN_input`` in uJ,
``powerN_average`` and ``powerN_input`` in uW, ``inN_input`` in mV, ``currN_input`` in mA, so that
voltage times current is in uW.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dance_ondevice.energy.sensors import (
    COUNTER_PERIOD_S,
    POWER_PERIOD_S,
    MeterUnavailable,
    Sample,
    SensorMeter,
)
from dance_ondevice.energy.sysfs import (
    UNREADABLE,
    Read,
    entries,
    read_attribute,
    read_number,
    reason,
    text_or_none,
)
from dance_ondevice.energy.tracks import CounterTrack, PowerTrack, Track

#: Chips that boards carry to measure what they are fed with; ``power_meter`` is ACPI's, of the whole machine.
_SUPPLY_CHIPS = re.compile(
    r"ina(209|219|220|226|228|230|231|233|234|237|238|260|700|780)|sy24655|sq52206|isl28022|ltc(2945|2947|4151)"
    r"|pac193\d|power_meter"
)
#: Chips that see one part of the machine only.
_PART_CHIPS = re.compile(
    r"amdgpu|radeon|nouveau|i915|xe|amd_energy|fam15h_power|zenpower|k10temp|nvme|ucsi.*|iwlwifi.*"
)
#: Labels of a supply that feeds the whole board, in lower case; ``in`` is what PMBus drivers call it.
_BOARD_LABELS = frozenset(
    {
        "vdd_in",
        "pom_5v_in",
        "5v_in",
        "vin",
        "dc_in",
        "vbus_in",
        "in",
        "input",
        "board",
        "system",
        "total",
    }
)
_NUMBERED = re.compile(r"(energy|power|in|curr)(\d+)_(input|average)")
_PMBUS = re.compile(r"[vip]((?:in|out)\d*)")
#: The INA3221 has three channels; in4-6 are shunt voltages, in7 and curr4 sums.
_CHANNELS = {"ina3221": (1, 2, 3)}


@dataclass(frozen=True)
class Channel:
    """A sensor: ``value`` reads joules (energy) or watts (power) and raises ``OSError`` or ``ValueError``."""

    label: str
    chip: str
    kind: Literal["energy", "power"]
    value: Callable[[], float]

    @property
    def is_board(self) -> bool:
        """Whether it measures all that the board is fed with."""
        return self.label.lower() in _BOARD_LABELS or self.chip == "power_meter"

    def track(self) -> Track:
        """A fresh track for its values."""
        return CounterTrack() if self.kind == "energy" else PowerTrack()


class Chip:
    """One hwmon device.

    The number in ``hwmonN`` may belong to another device after a driver was loaded anew, so the device is
    known by its name and parent, and looked for before each sample when it is not where it was.
    """

    def __init__(self, folder: Path, read: Read) -> None:
        self.name = read(folder / "name")
        self.device = _device(folder)
        self.attributes = frozenset(path.name for path in entries(folder))
        self._class = folder.parent
        self._folder: Path | None = folder
        self._read = read

    def locate(self) -> None:
        """Make sure that what is read next is this chip; without it every read fails."""
        if self._folder is None or not self._is_here(self._folder):
            found = [folder for folder in entries(self._class, "hwmon") if self._is_here(folder)]
            self._folder = found[0] if len(found) == 1 else None

    def number(self, attribute: str) -> float:
        """A number; ``OSError`` or ``ValueError`` when there is none."""
        if self._folder is None:
            raise OSError(errno.ENODEV, f"the chip {self.name} has gone", str(self._class))
        return read_number(self._folder / attribute, self._read)

    def text(self, attribute: str) -> str | None:
        """A text, None where there is none."""
        there = self._folder is not None and attribute in self.attributes
        return text_or_none(self._folder / attribute, self._read) if self._folder and there else None

    def enabled(self, *kinds: str) -> bool:
        """Whether no ``*_enable`` of these (``in1``, ``curr1``) says 0."""
        return all(self.text(f"{kind}_enable") != "0" for kind in kinds)

    def _is_here(self, folder: Path) -> bool:
        return text_or_none(folder / "name", self._read) == self.name and _device(folder) == self.device


def find_chips(sysfs: Path, read: Read = read_attribute) -> list[Chip]:
    """All chips that can be read."""
    chips = []
    for folder in entries(sysfs / "class" / "hwmon", "hwmon"):
        try:
            chips.append(Chip(folder, read))
        except UNREADABLE:
            continue
    return chips


def channels(chip: Chip) -> list[Channel]:
    """What a chip measures: energy counters, power where there is no counter, else voltage times current."""
    found = [m for name in sorted(chip.attributes) if (m := _NUMBERED.fullmatch(name))]
    by_kind: dict[str, list[int]] = {}
    for match in found:
        numbers = by_kind.setdefault(match[1], [])
        if int(match[2]) not in numbers:
            numbers.append(int(match[2]))
    counted = [n for n in sorted(by_kind.get("energy", [])) if _works(chip, f"energy{n}", f"energy{n}_input")]
    result = [_single(chip, "energy", n, f"energy{n}_input") for n in counted]
    for n in sorted(set(by_kind.get("power", [])) - set(counted)):
        names = (f"power{n}_average", f"power{n}_input")
        best = next((name for name in names if _works(chip, f"power{n}", name)), None)
        if best is not None:
            result.append(_single(chip, "power", n, best))
    return result or pairs(chip)


def pairs(chip: Chip) -> list[Channel]:
    """Voltages and currents that belong together: by label, then by the chip's numbering."""
    names = chip.attributes
    allowed = _CHANNELS.get(chip.name, range(64))
    volts = {n: _label(chip, f"in{n}") for n in allowed if f"in{n}_input" in names}
    amperes = {n: _label(chip, f"curr{n}") for n in allowed if f"curr{n}_input" in names}
    volts = {n: label for n, label in volts.items() if "shunt" not in label.lower()}
    matched: list[tuple[int, int]] = []
    for current, label in amperes.items():
        same = [n for n, other in volts.items() if label and other == label]
        if len(same) == 1:
            matched.append((same[0], current))
    used_volts, used_amperes = {v for v, _ in matched}, {c for _, c in matched}
    matched += [(n, n) for n in amperes if n in volts and n not in used_volts | used_amperes]
    result = []
    for volt, current in sorted(matched, key=lambda pair: pair[1]):
        label = volts[volt] or amperes[current]
        kinds = (f"in{volt}", f"curr{current}")
        if label.upper() != "NC" and _works(chip, *kinds, f"in{volt}_input", f"curr{current}_input"):
            result.append(Channel(label, chip.name, "power", _product(chip, *kinds)))
    return result


def meter_of(source: str, found: Sequence[Channel], about: str, chips: Sequence[Chip] = ()) -> SensorMeter:
    """A meter of channels: those that feed the whole board with the others as parts, else all summed.

    ``chips`` are those of the channels, to be located before each sample.
    """
    board = [channel for channel in found if channel.is_board]
    named = dict(zip(_names(found, board), found, strict=True))
    whole = {name: c.track() for name, c in named.items() if c.is_board or not board}
    parts = {name: c.track() for name, c in named.items() if name not in whole}
    counted = all(track.method == "counter" for track in whole.values())
    if board:
        about = f"{about}: {', '.join(c.label or c.chip for c in board)} feeds the whole board"
        about += f" ({', '.join(parts)} are parts of it)" if parts else ""
    else:
        about = f"{about}: {' + '.join(whole)}, none of which is known to feed the whole board"

    def sample() -> Sample:
        values, faults = {}, {}
        for chip in chips:
            chip.locate()
        for name, channel in named.items():
            try:
                values[name] = channel.value()
            except UNREADABLE as error:
                faults[name] = reason(error)
        return Sample(values, faults)

    return SensorMeter(
        source=source,
        about=about,
        period_s=COUNTER_PERIOD_S if counted else POWER_PERIOD_S,
        sample=sample,
        whole=whole,
        parts=parts,
    )


def open_hwmon(sysfs: Path, read: Read = read_attribute, *, any_chip: bool = False) -> SensorMeter:
    """The chips that measure what the board is fed with.

    Args:
        sysfs: root of sysfs.
        read: reads an attribute.
        any_chip: take other chips too when there is none of the known ones, save batteries and those that
            see one part of the machine only.

    Raises:
        MeterUnavailable: there is no such chip with a channel that works.
    """
    chips = [
        chip for chip in find_chips(sysfs, read) if chip.name != "ina3221" and not _is_battery(chip, sysfs)
    ]
    groups = [[chip for chip in chips if _SUPPLY_CHIPS.fullmatch(chip.name)]]
    if any_chip:
        groups.append([chip for chip in chips if not _PART_CHIPS.fullmatch(chip.name)])
    for group in groups:
        found = [channel for chip in group for channel in channels(chip)]
        if found:
            names = ", ".join(dict.fromkeys(channel.chip for channel in found))
            return meter_of("hwmon", found, f"sensors of {names}", group)
    there = ", ".join(chip.name for chip in chips) or "no chip"
    what = (
        "energy, power or voltage and current" if any_chip else "what feeds the board (INA219, INA226, ...)"
    )
    raise MeterUnavailable(
        "hwmon", f"no chip that measures {what} in {sysfs / 'class' / 'hwmon'}; found: {there}"
    )


def _single(chip: Chip, kind: Literal["energy", "power"], n: int, attribute: str) -> Channel:
    def value() -> float:
        if not chip.enabled(f"{kind}{n}"):
            raise ValueError(f"{chip.name} {kind}{n} is switched off")
        return chip.number(attribute) / 1e6

    return Channel(_label(chip, f"{kind}{n}"), chip.name, kind, value)


def _product(chip: Chip, volt: str, current: str) -> Callable[[], float]:
    def value() -> float:
        if not chip.enabled(volt, current):
            raise ValueError(f"{chip.name} {volt} is switched off")
        return chip.number(f"{volt}_input") * chip.number(f"{current}_input") / 1e6

    return value


def _works(chip: Chip, *names: str) -> bool:
    """Whether the channels (``in1``) are not switched off and the attributes (``in1_input``) can be read."""
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


def _label(chip: Chip, kind: str) -> str:
    """The channel's label, else the chip's own; PMBus names lose the letter of the quantity."""
    label = chip.text(f"{kind}_label") or chip.text("label") or ""
    match = _PMBUS.fullmatch(label)
    return match[1] if match else label


def _names(found: Sequence[Channel], board: Sequence[Channel]) -> list[str]:
    """A domain name for each channel: ``board``, its label, or the chip's name; numbered if need be."""
    names: list[str] = []
    for channel in found:
        only_board = len(board) == 1 and channel is board[0]
        name = base = "board" if only_board else channel.label or channel.chip
        while name in names:
            name = f"{base}-{sum(n.startswith(base) for n in names) + 1}"
        names.append(name)
    return names


def _device(folder: Path) -> str:
    """The device that a hwmon folder belongs to, such as ``1-0040``; empty where nothing says so."""
    try:
        return (folder / "device").readlink().name
    except OSError:
        return ""


def _is_battery(chip: Chip, sysfs: Path) -> bool:
    """Batteries show up here too; they have a source of their own."""
    names = {supply.name.replace("-", "_") for supply in entries(sysfs / "class" / "power_supply")}
    return chip.name in names or chip.device.replace("-", "_") in names
