"""What a Raspberry Pi says of its supply and its clock: a round on a sagging supply can crash the board."""

from __future__ import annotations

from pathlib import Path

from dance_ondevice.energy.sysfs import Read, entries, number_or_none, read_attribute, text_or_none

#: Bits of the firmware's get_throttled word that tell of this moment, from the documentation of vcgencmd.
#: Bit 3, the soft temperature limit of the 3B+, is left out: it is reached at 60 °C and costs little speed.
_NOW = {
    0x1: "the supply's voltage is too low",
    0x2: "the firmware has capped the processor's clock",
    0x4: "the firmware throttles the processor",
}


def read_hindrances(sysfs: Path, read: Read = read_attribute) -> tuple[str, ...]:
    """Why this board should not be loaded now, in words; empty where all is well or nothing is known.

    Reads the hwmon chip ``rpi_volt`` (``in0_lcrit_alarm``), and ``get_throttled`` of the firmware's device
    where a kernel has it.
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
