"""Chooses the energy meter of this board, with a warning to the user where one is needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from dance_ondevice.daemon.config.sections import Energy
from dance_ondevice.energy.choose import SOURCES, Machine, best_meter
from dance_ondevice.energy.model import ModelledMeter
from dance_ondevice.energy.reading import Meter
from dance_ondevice.energy.sensors import MeterUnavailable

log = logging.getLogger(__name__)

#: Full-load watts per core assumed when ``energy.max_watts`` is not set: the order of magnitude of a small
#: Arm board, not a measurement. Every value that depends on it is labelled as an assumption.
ASSUMED_WATTS_PER_CORE = 2.0


def choose_meter(
    energy: Energy, cpu_seconds: Callable[[], float], machine: Machine | None = None
) -> tuple[Meter, str]:
    """The meter to use, whose ``about`` says what it measures, and a warning, often empty.

    Args:
        energy: The section ``[energy]``.
        cpu_seconds: Cumulative CPU seconds of the daemon and its children, for the modelled meter.
        machine: Where sensors are searched for; None takes the section's ``sysfs_root``.

    Raises:
        MeterUnavailable: The section names a meter that is missing or cannot be read.
    """
    machine = machine or Machine(sysfs=Path(energy.sysfs_root))
    if energy.meter in SOURCES:
        return SOURCES[energy.meter](machine), ""
    passed: tuple[MeterUnavailable, ...] = ()
    if energy.meter == "auto":
        found, passed = best_meter(machine)
        for error in passed:
            log.info("meter not used reason=%s", error)
        if found is not None:
            return found, _remedies(passed)
    meter, note = _modelled(energy, cpu_seconds)
    return meter, "; ".join(filter(None, (_remedies(passed), _offers(passed), note)))


def later_meter(energy: Energy, meter: Meter, machine: Machine | None = None) -> str:
    """A sentence about a meter that has appeared since the start; "" without one.

    A driver may be loaded, and a meter be plugged in, later than the service starts. It is not taken into use
    while the service runs, since a round's joules are those of one meter. A battery is no such
    meter: it discharges whenever the supply is cut, and measures nothing once that is back.

    Args:
        energy: The section ``[energy]``.
        meter: The meter in use.
        machine: As for ``choose_meter``.
    """
    if energy.meter != "auto" or meter.method != "modelled":
        return ""
    found, _ = best_meter(machine or Machine(sysfs=Path(energy.sysfs_root)))
    if found is None or found.source == "battery":
        return ""
    return (
        f"energy is modelled, and a meter has appeared since the start ({found.about}): restart the service "
        "to use it"
    )


def full_load_watts(energy: Energy) -> float:
    """Watts with every core busy: as configured, else the assumption, never below idle power."""
    if energy.max_watts > 0:
        return max(energy.max_watts, energy.idle_watts)
    return energy.idle_watts + ASSUMED_WATTS_PER_CORE * _cores()


def _modelled(energy: Energy, cpu_seconds: Callable[[], float]) -> tuple[Meter, str]:
    max_watts, note = full_load_watts(energy), ""
    if energy.max_watts <= 0:
        note = (
            f"energy is modelled from CPU seconds with an assumed {max_watts:g} W at full load; "
            "set energy.max_watts (and energy.idle_watts) to this board's figures"
        )
    return ModelledMeter(cpu_seconds, energy.idle_watts, max_watts, _cores()), note


def _remedies(passed: tuple[MeterUnavailable, ...]) -> str:
    """Better meters that exist on this board, with what it takes to use them."""
    return "; ".join(str(error) for error in passed if error.remedy)


def _offers(passed: tuple[MeterUnavailable, ...]) -> str:
    """Chips that measure some power and are used only when they are configured."""
    return "; ".join(error.offer for error in passed if error.offer)


def _cores() -> int:
    return os.cpu_count() or 1
