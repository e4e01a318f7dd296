"""Which meter this board gets, and a sentence about it for the log, ``status`` and ``doctor``."""

from __future__ import annotations

import os
from collections.abc import Callable

from dance_ondevice.daemon.config_sections import Energy
from dance_ondevice.energy.model import ModelledMeter
from dance_ondevice.energy.reading import Meter

#: Full-load watts per core assumed when ``energy.max_watts`` is not set: the order of magnitude of a small
#: Arm board, no measurement of any. Labelled as an assumption wherever a figure rests on it.
ASSUMED_WATTS_PER_CORE = 2.0


def choose_meter(energy: Energy, cpu_seconds: Callable[[], float]) -> tuple[Meter, str]:
    """The meter to use and a note about what it rests on; the note is empty when there is nothing to warn of.

    Args:
        energy: the ``[energy]`` section.
        cpu_seconds: cumulative CPU seconds of the daemon and its trainer.
    """
    max_watts, note = full_load_watts(energy), ""
    if energy.max_watts <= 0:
        note = (
            f"energy is modelled from CPU seconds with an assumed {max_watts:g} W at full load; "
            "set energy.max_watts (and energy.idle_watts) to this board's figures"
        )
    return ModelledMeter(cpu_seconds, energy.idle_watts, max_watts, _cores()), note


def full_load_watts(energy: Energy) -> float:
    """Watts with every core busy: as configured, else the assumption, never below idle."""
    if energy.max_watts > 0:
        return max(energy.max_watts, energy.idle_watts)
    return energy.idle_watts + ASSUMED_WATTS_PER_CORE * _cores()


def _cores() -> int:
    return os.cpu_count() or 1
