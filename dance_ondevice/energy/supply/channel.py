"""One power channel of a sensor chip, independent of its interface."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dance_ondevice.energy.supply.labels import Role, plain, role_of
from dance_ondevice.energy.sysfs import UNREADABLE
from dance_ondevice.energy.tracks import CounterTrack, PowerTrack, Track

#: Regulators on a board, whose drivers label their own input and outputs.
_REGULATORS = re.compile(r"mp2[89]\w+|ir3\w+|isl6[89]\w+|raa\w+|xdpe\w+|tps53\w+|pxe\w+|max(16601|20\w+)")


@dataclass(frozen=True)
class Channel:
    """A sensor of power or energy.

    Attributes:
        label: Label by the driver or the device tree; often empty.
        chip: Name of the chip.
        kind: Kind of value: joules so far, or watts now.
        value: Function that reads it; negative watts flow backwards. It raises ``OSError`` or ``ValueError``.
        device: Device that it belongs to, to distinguish chips of one name.
        volts: Function that reads the voltage of its line, if the chip measures it.
        spare: Channel of the same quantity that is read if this one fails.
        in_battery: True if the chip reports that it is in a battery's line.
        designed: True if the board's makers wired and named it as one of a set of rails.
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
        """Return what the channel measures by its label."""
        if self.in_battery:
            return Role.BATTERY
        # ACPI's meters measure whole machines; several of them have different labels.
        if self.chip == "power_meter" and not plain(self.label):
            return Role.INPUT
        role = role_of(self.label, self.chip)
        # The input of a regulator is not the board's.
        return Role.PART if role is Role.INPUT and _REGULATORS.fullmatch(self.chip) else role

    @property
    def is_board(self) -> bool:
        """Return whether its label says that it measures the whole input of the board, or of its module."""
        return self.role <= Role.MODULE

    @property
    def named(self) -> bool:
        """Return whether it has a meaningful label."""
        return bool(plain(self.label)) or self.designed

    @property
    def name(self) -> str:
        """Return its name for the user."""
        return self.label if plain(self.label) else self.chip

    def track(self) -> Track:
        """Make a new track for its values."""
        return CounterTrack() if self.kind == "energy" else PowerTrack()

    def watts_now(self) -> float | None:
        """Return its present power in watts; None for a counter, or if it cannot be read."""
        channel = self if self.kind == "power" else self.spare
        try:
            return channel.value() if channel is not None else None
        except UNREADABLE:
            return None

    def volts_now(self) -> float | None:
        """Return the present voltage of its line; None if unknown."""
        try:
            return self.volts() if self.volts is not None else None
        except UNREADABLE:
            return None
