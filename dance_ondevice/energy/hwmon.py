"""Power sensors of ``/sys/class/hwmon``: INA219, INA226 and similar, ACPI power meters, power supplies.

``supply.whole`` decides which of their channels measures the board.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dance_ondevice.energy.battery import find_batteries
from dance_ondevice.energy.reading import SourceMeter
from dance_ondevice.energy.sensors import MeterUnavailable
from dance_ondevice.energy.supply.channel import Channel
from dance_ondevice.energy.supply.chips import Chip, channels, find_chips, forbidden, pairs
from dance_ondevice.energy.supply.whole import Choice, choices, meter_of_best
from dance_ondevice.energy.sysfs import Read, entries, read_attribute

#: Chips that measure a board's input, power supplies that report their output, and ACPI's ``power_meter``.
#: Boards add a designator to the name: ``ina226_u76``.
_SUPPLY_CHIPS = re.compile(
    r"(ina(209|219|220|226|228|230|231|232|233|234|236|237|238|260|700|780)|sy2465[56]|sq52206|isl28022|tsc1641"
    r"|ltc(2945|2947|2992|4151|4282|4284|4286|4287)|adm1(075|27[2-8]|281|29[34])|lm(25056|25066|5064|5066i?)"
    r"|pac19[345]\d|power_meter|powerz|spbm|macsmc_hwmon|corsairpsu)([_-].*)?"
)
#: Chips that measure one part of the machine only, or no power of it, such as light in a fibre or the limit
#: that a charger offers.
_PART_CHIPS = re.compile(
    r"amdgpu|radeon|nouveau|nvidia.*|i915|xe|amd_energy|fam15h_power|zenpower.*|k10temp|sbrmi|nvme|drivetemp|ucsi.*"
    r"|tcpm.*|fusb302.*|.*source_psy.*|iwlwifi.*|mt79.*|sfp.*|steamdeck_hwmon|iio_hwmon.*"
    r"|d5next|octo|quadro|farbwerk.*|highflow.*|aquaero|aquastreamxt|poweradjust.*"
)


def open_hwmon(sysfs: Path, read: Read = read_attribute, *, any_chip: bool = False) -> SourceMeter:
    """Open the chips that measure the board's input.

    Args:
        sysfs: Root of sysfs.
        read: Function that reads an attribute.
        any_chip: True takes other chips if there is none of the known ones, except for batteries and chips
            that measure one part of the machine only.

    Raises:
        MeterUnavailable: No such chip has a working channel, or all are in a battery's line.
    """
    everything = find_chips(sysfs, read)
    chips = [chip for chip in everything if chip.name != "ina3221" and not _is_battery(chip, sysfs)]
    beside = [rail for chip in everything if chip.name == "ina3221" for rail in pairs(chip)]
    known = [chip for chip in chips if _SUPPLY_CHIPS.fullmatch(chip.name)]
    others = [chip for chip in chips if chip not in known and not _PART_CHIPS.fullmatch(chip.name)]
    battery = bool(find_batteries(sysfs, read))
    dropped: list[str] = []
    for group in [known, others] if any_chip else [known]:
        options, left_out = choices(_channels(group), beside=beside, battery=battery)
        dropped += left_out
        if options:
            return _meter(group, options, dropped)
    raise _unavailable(chips, others, dropped, sysfs / "class" / "hwmon", any_chip=any_chip, battery=battery)


def _meter(chips: Sequence[Chip], options: Sequence[Choice], dropped: Sequence[str]) -> SourceMeter:
    def locate() -> None:
        for chip in chips:
            chip.locate()

    def about(option: Choice) -> str:
        return f"sensors of {', '.join(dict.fromkeys(channel.chip for channel in option.whole))}"

    return meter_of_best("hwmon", options, about, dropped=dropped, locate=locate)


def _unavailable(
    chips: Sequence[Chip],
    others: Sequence[Chip],
    dropped: Sequence[str],
    folder: Path,
    *,
    any_chip: bool,
    battery: bool,
) -> MeterUnavailable:
    """Make the error with what was searched and found, and what the user can configure instead."""
    there = ", ".join(chip.name for chip in chips) or "no chip"
    what = (
        "energy, power or voltage and current" if any_chip else "what feeds the board (INA219, INA226, ...)"
    )
    found = f"no chip that measures {what} in {folder}; found: {there}"
    denied = [name for chip in chips if not _PART_CHIPS.fullmatch(chip.name) and (name := forbidden(chip))]
    if denied:
        found += f"; this user may not read {', '.join(denied)}"
    if dropped:
        found = f"{'; '.join(dropped)}; found in {folder}: {there}"
    offer = f"{'; '.join(dropped)} (docs/boards.md)" if dropped else ""
    if not any_chip and (options := choices(_channels(others), battery=battery)[0]):
        seen = [f"{channel.name} of {channel.chip}{_shown(channel)}" for channel in options[0].whole]
        offer = f'energy.meter = "hwmon" would take {", ".join(seen)}'
    remedy = (
        "let the service's user read these files, with a udev rule as RAPL's (docs/energy.md)"
        if denied
        else ""
    )
    return MeterUnavailable("hwmon", found, remedy, offer=offer)


def _shown(channel: Channel) -> str:
    watts = channel.watts_now()
    return "" if watts is None else f" ({watts:.2f} W)"


def _channels(chips: Sequence[Chip]) -> list[Channel]:
    found = [channel for chip in chips for channel in channels(chip)]
    # ACPI does not define a meter's label: a single meter is that of the machine, with any label.
    alone = sum(channel.chip == "power_meter" for channel in found) == 1
    return [
        replace(channel, label="") if alone and channel.chip == "power_meter" else channel
        for channel in found
    ]


def _is_battery(chip: Chip, sysfs: Path) -> bool:
    """Return whether a chip is a battery, which has its own source."""
    names = {supply.name.replace("-", "_") for supply in entries(sysfs / "class" / "power_supply")}
    return chip.name in names or chip.device.replace("-", "_") in names
