"""One power channel of a sensor chip, whatever interface it is read through."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dance_ondevice.energy.supply.labels import Role, plain, role_of
from dance_ondevice.energy.sysfs import UNREADABLE
from dance_ondevice.energy.tracks import CounterTrack, PowerTrack, Track

#: Regulators on a board, whose drivers call their own input and outputs so.
_REGULATORS = re.compile(r"mp2[89]\w+|ir3\w+|isl6[89]\w+|raa\w+|xdpe\w+|tps53\w+|pxe\w+|max(16601|20\w+)")


@dataclass(frozen=True)
class Channel:
    """A sensor of power or energy.

    Attributes:
        label: what the driver or the device tree calls it; often empty.
        chip: name of the chip.
        kind: whether ``value`` reads joules so far or watts now.
        value: reads it; negative watts flow backwards. Raises ``OSError`` or ``ValueError``.
        device: which of several chips of one name it belongs to.
        volts: reads the voltage of its line, where the chip tells it.
        spare: the same quantity by another way, to be read when this one fails.
        in_battery: the chip itself says that it sits in a battery's line.
        designed: it was put there by the board's makers, who wired up and named a set of rails.
    """

    label: str
    chip: str
    kind: Literal["energy", "power"]
    value: Callable[[], float]
    device: str = ""
    volts: Callable[[], float] | None = None
    spare: Channel | None = None
    in_battery: bool = False
    designed: bool = False

    @property
    def role(self) -> Role:
        """What it measures, as far as its label says."""
        if self.in_battery:
            return Role.BATTERY
        # ACPI knows meters of whole machines; where it has several, their labels tell them apart.
        if self.chip == "power_meter" and not plain(self.label):
            return Role.INPUT
        role = role_of(self.label, self.chip)
        # The input of a regulator is not the board's.
        return Role.PART if role is Role.INPUT and _REGULATORS.fullmatch(self.chip) else role

    @property
    def is_board(self) -> bool:
        """Whether its label says that it measures all that the board, or its module, is fed with."""
        return self.role <= Role.MODULE

    @property
    def named(self) -> bool:
        """Whether its label says anything."""
        return bool(plain(self.label)) or self.designed

    @property
    def name(self) -> str:
        """What to call it to the user."""
        return self.label if plain(self.label) else self.chip

    def track(self) -> Track:
        """A fresh track for its values."""
        return CounterTrack() if self.kind == "energy" else PowerTrack()

    def watts_now(self) -> float | None:
        """Its power at this moment; None for a counter and where it cannot be read."""
        channel = self if self.kind == "power" else self.spare
        try:
            return channel.value() if channel is not None else None
        except UNREADABLE:
            return None

    def volts_now(self) -> float | None:
        """The voltage of its line at this moment, None where it is not known."""
        try:
            return self.volts() if self.volts is not None else None
        except UNREADABLE:
            return None
