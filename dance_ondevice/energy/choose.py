"""Choice of a machine's energy source: the configured one, or the best of those that it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dance_ondevice.energy.battery import open_battery
from dance_ondevice.energy.hwmon import open_hwmon
from dance_ondevice.energy.iio import open_iio
from dance_ondevice.energy.ina3221 import open_ina3221
from dance_ondevice.energy.nvml import open_nvml
from dance_ondevice.energy.pmic import Run, open_pmic, run_command
from dance_ondevice.energy.rapl import open_rapl
from dance_ondevice.energy.reading import Scope, SourceMeter
from dance_ondevice.energy.sensors import MeterUnavailable
from dance_ondevice.energy.supply.chain import LEAST_OF_PART, Chain
from dance_ondevice.energy.sysfs import Read, read_attribute


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Access to a machine: all paths start from ``sysfs``, all commands go through ``run``."""

    sysfs: Path
    read: Read = read_attribute
    run: Run = run_command
    pynvml: Any = None


Opener = Callable[[Machine], SourceMeter]


@dataclass(frozen=True)
class Source:
    """A row of the table of sources.

    Attributes:
        name: Name in the configuration.
        open: Function that opens the source when it is configured by name.
        rank: Order in which sources are tried without a name, best first; None is opened only by name.
            Sources that are known to feed the board go before all others.
        unasked: Function that opens the source without a name, if it is stricter then.
    """

    name: str
    open: Opener
    rank: int | None
    unasked: Opener | None = None


#: All sources. A new meter is a file with its opener and a row here. Ranks: the whole board at all times,
#: then the processor by counter, then most of a Pi's board, then the whole board at some times. A GPU alone
#: is too small a part.
TABLE = (
    Source("ina3221", lambda m: open_ina3221(m.sysfs, m.read), 1),
    Source(
        "hwmon",
        lambda m: open_hwmon(m.sysfs, m.read, any_chip=True),
        2,
        unasked=lambda m: open_hwmon(m.sysfs, m.read),
    ),
    Source("iio", lambda m: open_iio(m.sysfs, m.read), 3),
    Source("rapl", lambda m: open_rapl(m.sysfs, m.read), 4),
    Source("pmic", lambda m: open_pmic(m.run), 5),
    Source(
        "battery",
        lambda m: open_battery(m.sysfs, m.read),
        6,
        unasked=lambda m: open_battery(m.sysfs, m.read, only_when_discharging=True),
    ),
    Source("nvml", lambda m: open_nvml(m.pynvml), None),
)

#: Functions that open hardware sources, by their names in the configuration.
SOURCES: Mapping[str, Opener] = {source.name: source.open for source in TABLE}


#: Order of scopes: sources that feed the board, then those that feed its module, then all others.
_SCOPES: Mapping[Scope, int] = {"board": 0, "module": 1}


def best_meter(machine: Machine) -> tuple[SourceMeter | None, tuple[MeterUnavailable, ...]]:
    """Return the best available source (None without any), and why each better one was not used.

    A source that shows an impossible power is not used as long as it does; the source in use is replaced by
    the next one under the same rule. See ``Chain``.
    """
    found: list[tuple[tuple[int, int], SourceMeter]] = []
    failed: list[tuple[tuple[int, int], MeterUnavailable]] = []
    for source in TABLE:
        if source.rank is None:
            continue
        try:
            meter = (source.unasked or source.open)(machine)
        except MeterUnavailable as error:
            failed.append(((len(_SCOPES), source.rank), error))
        else:
            found.append(((_SCOPES.get(meter.scope, len(_SCOPES)), source.rank), meter))
    found.sort(key=lambda pair: pair[0])
    doubts = _doubts([meter for _, meter in found])
    usable = [order for i, (order, _) in enumerate(found) if i not in doubts]
    failed += [(found[i][0], _disbelieved(found[i][1], why)) for i, why in doubts.items()]
    failed.sort(key=lambda pair: pair[0])
    if not usable:
        return None, tuple(error for _, error in failed)
    passed = tuple(error for order, error in failed if order < usable[0])
    meters = [meter for _, meter in found]
    return (Chain(meters, doubts) if len(meters) > 1 else meters[0]), passed


def _doubts(meters: list[SourceMeter]) -> dict[int, str]:
    """Return the reasons why some of several meters, best first, cannot be the board's, by their index."""
    glances = [meter.glance() for meter in meters]
    doubts = {}
    for i, (meter, seen) in enumerate(zip(meters, glances, strict=True)):
        if seen.doubt:
            doubts[i] = seen.doubt
        elif meter.scope != "part" and seen.watts is not None:
            for other, beside in zip(meters[i + 1 :], glances[i + 1 :], strict=True):
                if beside.watts is not None and seen.watts < LEAST_OF_PART * beside.watts:
                    doubts[i] = f"it reads {seen.watts:.2f} W, and {other.source} sees {beside.watts:.2f} W"
                    break
    return doubts


def _disbelieved(meter: SourceMeter, why: str) -> MeterUnavailable:
    sensors = meter.about.partition(":")[0]
    return MeterUnavailable(
        meter.source, f"{sensors}: {why}", "it is passed over as long as that lasts (docs/boards.md)"
    )
