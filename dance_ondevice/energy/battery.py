"""Power and charge of batteries, from ``/sys/class/power_supply``.

Units are uV, uA and uW (Documentation/ABI/testing/sysfs-class-power of Linux). The sign of a current is
negative while discharging by that page, but drivers differ, so only the amount is used and ``status`` gives
the direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from dance_ondevice.energy.sensors import COUNTER_PERIOD_S, LEAST_WATTS, MeterUnavailable, Sample, SensorMeter
from dance_ondevice.energy.sysfs import (
    UNREADABLE,
    Read,
    entries,
    number_or_none,
    read_attribute,
    read_number,
    reason,
    text_or_none,
)
from dance_ondevice.energy.tracks import CounterTrack, PowerTrack

#: Longest gap between samples in seconds: fuel gauges average over a second or more.
_MAX_GAP_S = 5.0
DOMAIN = "board"
#: Largest charge that a gauge shows for a full battery; more is no charge.
_MOST_PERCENT = 130.0


def find_batteries(sysfs: Path, read: Read = read_attribute) -> list[Path]:
    """Find the batteries that feed the board: not those of devices such as a mouse, and not absent ones."""
    return [
        supply
        for supply in entries(sysfs / "class" / "power_supply")
        if text_or_none(supply / "type", read) in ("Battery", "UPS")
        and text_or_none(supply / "scope", read) != "Device"
        and text_or_none(supply / "present", read) != "0"
    ]


def charge_percent(battery: Path, read: Read = read_attribute) -> float | None:
    """Return the charge in percent, by ``capacity``, else by energy or charge; None if unknown."""
    percent = number_or_none(battery / "capacity", read)
    for quantity in ("energy", "charge"):
        if percent is None:
            now = number_or_none(battery / f"{quantity}_now", read)
            full = number_or_none(battery / f"{quantity}_full", read)
            percent = 100 * now / full if now is not None and full else None
    if percent is None or not 0 <= percent <= _MOST_PERCENT:
        return None
    return min(100.0, percent)


def total_charge_percent(batteries: Sequence[Path], read: Read = read_attribute) -> float | None:
    """Return the charge of all batteries together in percent; None if unknown.

    Machines empty one battery after the other, so the rest is the sum of the energies. If one of them does
    not report its energy, the emptiest battery counts.
    """
    stores = [_stored_energy(battery, read) for battery in batteries]
    known = [store for store in stores if store is not None]
    if known and len(known) == len(stores):
        return min(100.0, 100 * sum(now for now, _ in known) / sum(full for _, full in known))
    charges = [charge_percent(battery, read) for battery in batteries]
    return min((charge for charge in charges if charge is not None), default=None)


def battery_watts(sysfs: Path, read: Read = read_attribute) -> float:
    """Return the power in watts that the batteries give to the board.

    Raises:
        OSError: A gauge cannot be read.
        ValueError: The batteries do not feed the board alone (charging, or mains is on), or a gauge gives no
            usable figure.
    """
    feeding = discharging(sysfs, read)
    if not feeding:
        raise ValueError("no battery is discharging")
    watts = sum(_watts(battery, read) for battery in feeding)
    if watts < LEAST_WATTS:
        names = ", ".join(battery.name for battery in feeding)
        raise ValueError(f"{names} discharging shows {watts:.3g} W, and a board draws more")
    return watts


def discharging(sysfs: Path, read: Read = read_attribute) -> list[Path]:
    """Return the batteries that feed the board at this moment.

    Raises:
        ValueError: An outside supply is on, or the state of a battery does not show what it does.
    """
    states = {battery: text_or_none(battery / "status", read) for battery in find_batteries(sysfs, read)}
    feeding = [battery for battery, state in states.items() if state == "Discharging"]
    supply = _outside_supply(sysfs, read, discharging=bool(feeding))
    if supply:
        raise ValueError(f"an outside supply is on ({supply}), so the batteries do not feed the board alone")
    unclear = [
        f"{battery.name} is {state}"
        for battery, state in states.items()
        if state not in ("Discharging", "Not charging", "Full") and not _rests(battery, state, read)
    ]
    if unclear:
        raise ValueError(f"not discharging: {', '.join(unclear)}")
    return feeding


def open_battery(
    sysfs: Path, read: Read = read_attribute, *, only_when_discharging: bool = False
) -> SensorMeter:
    """Open the batteries as a meter of the whole board, valid while they discharge.

    It measures power if the gauges report it, else the fall of their energy.

    Args:
        sysfs: Root of sysfs.
        read: Function that reads an attribute.
        only_when_discharging: True refuses batteries that do not discharge at this moment.

    Raises:
        MeterUnavailable: No battery reports its power.
    """
    batteries = find_batteries(sysfs, read)
    folder = sysfs / "class" / "power_supply"
    if not batteries:
        raise MeterUnavailable("battery", f"no battery that feeds the board in {folder}")
    by_energy = not all(_power_can_be_read(battery, read) for battery in batteries) and all(
        _stored_energy(battery, read) is not None for battery in batteries
    )
    silent = [battery.name for battery in batteries if not _tells_power(battery)]
    if silent and not by_energy:
        found = f"{folder / silent[0]} has neither power_now nor current_now and voltage_now"
        raise MeterUnavailable("battery", found)
    if only_when_discharging:
        try:
            _ = bool(discharging(sysfs, read)) if by_energy else battery_watts(sysfs, read)
        except UNREADABLE as error:
            doubtful = any(text_or_none(battery / "status", read) == "Discharging" for battery in batteries)
            offer = f"a battery says that it discharges, but {reason(error)}" if doubtful else ""
            raise MeterUnavailable("battery", reason(error), offer=offer) from error
    names = ", ".join(battery.name for battery in batteries)
    # A gauge may show more than it calls full, so the counter starts well above 0.
    origin = sum(sum(store) for battery in batteries if (store := _stored_energy(battery, read)) is not None)

    def sample() -> Sample:
        try:
            if not by_energy:
                return Sample({DOMAIN: battery_watts(sysfs, read)})
            if not discharging(sysfs, read):
                raise ValueError("no battery is discharging")
            return Sample({DOMAIN: _drawn(batteries, origin, read)})
        except UNREADABLE as error:
            return Sample({}, {DOMAIN: reason(error)})

    return SensorMeter(
        source="battery",
        about=f"what {names} gives"
        + (", by the fall of its energy" if by_energy else "")
        + "; time on an outside supply is unmeasured",
        period_s=COUNTER_PERIOD_S,
        sample=sample,
        whole={DOMAIN: CounterTrack(watts_over_s=15.0) if by_energy else PowerTrack(_MAX_GAP_S)},
        scope="supply",
        # A gauge may take a minute from one step of its energy to the next.
        may_rest=by_energy,
    )


def _watts(battery: Path, read: Read) -> float:
    """Return the power of one battery in watts, by the first way that its gauge can be read."""
    error: Exception = ValueError(f"{battery.name} reports neither power nor current")
    for way in _ways(battery):
        try:
            return way(read)
        except UNREADABLE as failed:
            error = failed
    raise error


def _ways(battery: Path) -> Iterator[Callable[[Read], float]]:
    """Yield functions that read the power of a battery in watts, best first."""
    for suffix in ("now", "avg"):
        power, current = battery / f"power_{suffix}", battery / f"current_{suffix}"
        averaged = suffix == "avg" and (battery / "voltage_avg").exists()
        volts = battery / ("voltage_avg" if averaged else "voltage_now")
        if power.exists():
            yield partial(_product, (power,))
        if current.exists() and volts.exists():
            yield partial(_product, (current, volts))


def _product(attributes: tuple[Path, ...], read: Read) -> float:
    return math.prod(abs(read_number(attribute, read)) / 1e6 for attribute in attributes)


def _power_can_be_read(battery: Path, read: Read) -> bool:
    """Return whether the power can be read in some way, or is only busy for the moment."""
    for way in _ways(battery):
        try:
            way(read)
        except BlockingIOError:
            return True
        except UNREADABLE:
            continue
        return True
    return False


def _tells_power(battery: Path) -> bool:
    return next(_ways(battery), None) is not None


def _stored_energy(battery: Path, read: Read) -> tuple[float, float] | None:
    """Return the joules that a battery holds, and holds when full; None if it does not report them."""
    now, full = number_or_none(battery / "energy_now", read), number_or_none(battery / "energy_full", read)
    unit = 3600 / 1e6  # uWh
    if now is None or full is None:
        now, full = (
            number_or_none(battery / "charge_now", read),
            number_or_none(battery / "charge_full", read),
        )
        nominal = (
            number_or_none(battery / f"voltage_{name}", read) for name in ("min_design", "max_design", "now")
        )
        volts = next((value for value in nominal if value), None)
        if now is None or full is None or volts is None:
            return None
        unit *= volts / 1e6
    return (now * unit, full * unit) if full > 0 and now >= 0 else None


def _drawn(batteries: Sequence[Path], origin: float, read: Read) -> float:
    """Return a count that grows with the joules drawn: those by which the batteries hold less than origin."""
    stores = [_stored_energy(battery, read) for battery in batteries]
    if None in stores:
        raise ValueError("a battery no longer reports its energy")
    return max(0.0, origin - sum(store[0] for store in stores if store is not None))


def _rests(battery: Path, state: str | None, read: Read) -> bool:
    """Return whether a battery without a reported state neither charges nor discharges."""
    if state != "Unknown":
        return False
    flows = [number_or_none(battery / name, read) for name in ("power_now", "current_now")]
    known = [flow for flow in flows if flow is not None]
    return bool(known) and not any(known)


def _outside_supply(sysfs: Path, read: Read, *, discharging: bool) -> str:
    """Return the supply that feeds the board beside the batteries, ``""`` if none does.

    Some USB ports always report that they are online. If a battery discharges, the power adapter reports that
    it is off and the port shows no voltage or current, then the battery alone feeds the board.
    """
    online: dict[str, Path] = {}
    adapters_off = []
    for supply in entries(sysfs / "class" / "power_supply"):
        kind = text_or_none(supply / "type", read)
        if kind is None or text_or_none(supply / "scope", read) == "Device":
            continue
        if not kind.startswith(("Mains", "USB", "Wireless", "BrickID")):  # before Linux 5.8 also USB_DCP, ...
            continue
        state = text_or_none(supply / "online", read)
        if state not in (None, "0"):
            online[f"{supply.name}, {kind}"] = supply
        elif kind == "Mains" and state == "0":
            adapters_off.append(supply)
    ports = [supply for name, supply in online.items() if ", USB" in name and not _gives(supply, read)]
    if discharging and adapters_off and len(ports) == len(online):
        return ""
    return "; ".join(online)


def _gives(supply: Path, read: Read) -> bool:
    """Return whether a supply shows a voltage and a current, measured or negotiated."""
    shown = [number_or_none(supply / name, read) for name in ("voltage_now", "current_now")]
    return any(shown)
