"""Which energy source a machine has: the one that was named, or the best of those that are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dance_ondevice.energy.battery import open_battery
from dance_ondevice.energy.hwmon import open_hwmon
from dance_ondevice.energy.ina3221 import open_ina3221
from dance_ondevice.energy.nvml import open_nvml
from dance_ondevice.energy.pmic import Run, open_pmic, run_command
from dance_ondevice.energy.rapl import open_rapl
from dance_ondevice.energy.reading import Meter
from dance_ondevice.energy.sensors import MeterUnavailable
from dance_ondevice.energy.sysfs import Read, read_attribute


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a machine is read: all paths start from ``sysfs``, all commands go through ``run``."""

    sysfs: Path
    read: Read = read_attribute
    run: Run = run_command
    pynvml: Any = None


#: Hardware sources by the name that the configuration calls them.
SOURCES: Mapping[str, Callable[[Machine], Meter]] = {
    "rapl": lambda m: open_rapl(m.sysfs, m.read),
    "hwmon": lambda m: open_hwmon(m.sysfs, m.read, any_chip=True),
    "ina3221": lambda m: open_ina3221(m.sysfs, m.read),
    "pmic": lambda m: open_pmic(m.run),
    "battery": lambda m: open_battery(m.sysfs, m.read),
    "nvml": lambda m: open_nvml(m.pynvml),
}

#: What is tried without a name, best first: the whole board at all times, then the processor by counter, then
#: most of a Pi's board, then the whole board at some times. A GPU alone says too little to be chosen for all.
_BEST_FIRST: Mapping[str, Callable[[Machine], Meter]] = {
    "ina3221": SOURCES["ina3221"],
    "hwmon": lambda m: open_hwmon(m.sysfs, m.read),
    "rapl": SOURCES["rapl"],
    "pmic": SOURCES["pmic"],
    "battery": lambda m: open_battery(m.sysfs, m.read, only_when_discharging=True),
}


def best_meter(machine: Machine) -> tuple[Meter | None, tuple[MeterUnavailable, ...]]:
    """The best source that is there, None where none is, and why each better one was passed over."""
    passed: list[MeterUnavailable] = []
    for open_source in _BEST_FIRST.values():
        try:
            return open_source(machine), tuple(passed)
        except MeterUnavailable as error:
            passed.append(error)
    return None, tuple(passed)
