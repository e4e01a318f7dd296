"""RAPL: the energy counters of x86 processors, Intel and AMD, through ``/sys/class/powercap``.

Zones are named ``intel-rapl:0``, ``intel-rapl:0:1``, ... on both makes; the numbers are hexadecimal
(``powercap_register_zone`` prints them with %x). Source: Documentation/power/powercap/powercap.rst and
drivers/powercap/intel_rapl_common.c of Linux.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dance_ondevice.energy.reading import DomainEnergy, EnergyReading, Glance, Method, Scope
from dance_ondevice.energy.sensors import COUNTER_PERIOD_S, MeterUnavailable
from dance_ondevice.energy.sysfs import (
    UNREADABLE,
    Read,
    entries,
    read_attribute,
    read_number,
    reason,
    text_or_none,
)
from dance_ondevice.energy.tracks import CounterTrack, Parts, Stall, Uncovered

log = logging.getLogger(__name__)

REMEDY = (
    "the counters are readable by root alone since CVE-2020-8694; install "
    "systemd/99-dance-ondevice-rapl.rules and systemd/dance-ondevice.sysusers.conf and run the service "
    "in the group dance-energy (docs/energy.md)"
)

_DIE = re.compile(r"(package-\d+)-die-\d+(/.*)?")
_ZONE = re.compile(r"(intel-rapl(?:-mmio)?)((?::[0-9a-f]+)+)")
#: Vendor numbers of AMD and of Hygon, which uses AMD's design, in the kernel's names of processors.
_AMD_VENDORS = (2, 9)
#: Range of AMD's counters in joules: 2^32 steps of 2^-16 J.
_AMD_RANGE_JOULES = 65_532.610987
#: Least ratio of psys to the domains that it contains: the counters are not read at one instant.
_PSYS_TOLERANCE = 0.95
#: Window in recent joules of the packages over which psys is judged: a few reads on an idle board.
_PSYS_WINDOW_JOULES = 50.0
#: Largest difference in joules of one counter read twice, as two dies of a package: the energy that a large
#: processor uses in the time between two reads of a file.
_MIRROR_JOULES = 5.0
#: Number of failed reads of psys in a row after which packages and memory are used instead.
_PSYS_PATIENCE = 5


@dataclass(frozen=True)
class Zone:
    """One RAPL zone: ``domain`` is unique, such as ``package-0``, ``package-0/core`` or ``psys``."""

    domain: str
    name: str
    energy: Path
    range_joules: float | None

    @property
    def is_psys(self) -> bool:
        """Return whether the zone covers the platform, packages and memory included."""
        return self.name == "psys" or self.name.startswith("psys-")

    @property
    def is_whole(self) -> bool:
        """Return whether the zone overlaps only with psys: a package, or memory, which packages leave out."""
        return self.name.startswith("package") or self.name == "dram"


def find_zones(sysfs: Path, read: Read = read_attribute) -> list[Zone]:
    """Find all zones below ``sysfs``, without duplicates.

    ``intel-rapl-mmio`` shows the same packages in another way; a zone of it is used only if ``intel-rapl``
    has no zone of its name.
    """
    folders = {path.name: path for path in entries(sysfs / "class" / "powercap")}
    # sysfs lists subzones beside their parents, a copy of the tree may hold them within.
    for above in list(folders.values()):
        folders.update({path.name: path for path in entries(above, above.name + ":")})
    order = sorted((key, folder) for folder in folders.values() if (key := _order(folder.name)) is not None)
    zones: dict[str, Zone] = {}
    domains: dict[tuple[str, tuple[int, ...]], str] = {}
    seen_by: dict[str, str] = {}
    for (control, ids), folder in order:
        name = text_or_none(folder / "name", read)
        if name is None:
            continue
        parent = domains.get((control, ids[:-1]), "")
        domain = domains[control, ids] = f"{parent}/{name}" if parent else name
        # Zones with one name are different within one control type, and the same across control types.
        if seen_by.setdefault(domain, control) != control:
            continue
        while domain in zones:
            domain += "'"
        try:
            range_joules = read_number(folder / "max_energy_range_uj", read) / 1e6
        except UNREADABLE:
            range_joules = 0.0
        zones[domain] = Zone(domain, name, folder / "energy_uj", range_joules if range_joules > 0 else None)
    return list(zones.values())


class Mirrors:
    """Detection of zones that show the counter of another zone again.

    The processors of AMD have one counter for each package, which several kernels show once for each die:
    with the same value, apart from the time between two reads. Dies with their own counters, as those of
    Intel's Cascade Lake-AP, differ from the start, or soon do. A counter that has differed once is never a
    mirror.
    """

    def __init__(self, zones: Sequence[Zone]) -> None:
        self._ranges = {zone.domain: zone.range_joules or math.inf for zone in zones}
        groups: dict[str, list[str]] = {}
        for zone in zones:
            if die := _DIE.fullmatch(zone.domain):
                groups.setdefault(f"{die[1]}{die[2]}", []).append(zone.domain)
            elif zone.is_psys:
                groups.setdefault("psys", []).append(zone.domain)
        #: Zones that may be mirrors, each with the zone that it may mirror.
        self._first = {domain: group[0] for group in groups.values() for domain in group[1:]}
        self._seen: set[str] = set()

    def look(self, values: Mapping[str, float | None]) -> None:
        """Compare counters that were read one after the other."""
        for domain, first in list(self._first.items()):
            mine, other = values.get(domain), values.get(first)
            if mine is None or other is None:
                continue
            apart = abs(mine - other)
            if min(apart, abs(self._ranges[domain] - apart)) > _MIRROR_JOULES:
                del self._first[domain]
                self._seen.discard(domain)
            else:
                self._seen.add(domain)

    def shows_another(self, domain: str) -> bool:
        """Return whether a zone is a mirror of another one by the readings so far."""
        return domain in self._seen


class RaplMeter:
    """Meter of the processor's joules, or of the platform's if its zone psys is plausible.

    psys contains packages and memory. On some boards it stands still or counts in another unit, so for each
    interval it is checked that psys recently counted at least as much as the domains that it contains; if so
    the interval is booked to psys alone, else to packages and memory. The domains therefore never overlap.
    The same holds for a psys that can no longer be read.

    Not thread-safe: one thread reads it.
    """

    source = "rapl"
    method: Method = "counter"
    period_s = COUNTER_PERIOD_S

    def __init__(self, zones: list[Zone], read: Read = read_attribute) -> None:
        """Start counting at the first ``read``; ``zones`` come from ``find_zones``."""
        self._read_attribute = read
        self._zones = {zone.domain: zone for zone in zones}
        self._tracks = {zone.domain: CounterTrack(zone.range_joules) for zone in zones}
        self._psys = [z.domain for z in zones if z.is_psys]
        self._rest = [z.domain for z in zones if z.is_whole]
        self._inner = [z.domain for z in zones if not z.is_psys and not z.is_whole]
        self._booked = dict.fromkeys([*self._psys, *self._rest], 0.0)
        self._by_psys = not self._rest
        self._recent_psys = self._recent_rest = 0.0
        self._psys_failures = 0
        #: Raw joules of the parts while psys (True) or packages and memory (False) were booked.
        self._inside = {True: dict.fromkeys(self._rest, 0.0), False: dict.fromkeys(self._inner, 0.0)}
        self._fitted: dict[bool, Parts[str]] = {True: Parts(), False: Parts()}
        self._uncovered = Uncovered()
        self._lost: set[str] = set()
        self._last: float | None = None
        self._stall = Stall()
        self._mirrors = Mirrors(zones)

    scope: Scope = "part"

    def glance(self) -> Glance:
        """Return an empty glance: counters give no power at once, and were checked when they were opened."""
        return Glance()

    @property
    def about(self) -> str:
        """Describe what is measured at present."""
        if self._by_psys:
            return "RAPL counters of the whole platform (psys)"
        known = f"RAPL counters of {', '.join(self._counted(self._rest))}"
        if self._psys:
            return f"{known}, or of the whole platform (psys) while that counts at least as much"
        return (
            f"{known}: the processor"
            + (" and memory" if "dram" in known else "")
            + ", not the rest of the board"
        )

    def read(self, now: float) -> EnergyReading:
        """Return the energy since the first read; see ``Meter``."""
        now = self._last = now if self._last is None else max(now, self._last)
        values = {domain: self._joules(zone) for domain, zone in self._zones.items()}
        spans = {domain: track.update(now, values[domain]) for domain, track in self._tracks.items()}
        self._mirrors.look(values)
        self._judge_psys()
        chosen = self._counted(self._psys if self._by_psys else self._rest)
        for domain in chosen:
            self._booked[domain] += self._tracks[domain].step
            self._uncovered.add(spans[domain])
        inside = self._inside[self._by_psys]
        for domain in self._counted(inside):
            inside[domain] += self._tracks[domain].step
        faults = {domain: "cannot be read" for domain in chosen if values[domain] is None}
        if self._stall.since(now, sum(self._booked.values())):
            self._uncovered.add(self._stall.span)
            faults = faults or dict.fromkeys(chosen, self._stall.words)
        return EnergyReading(
            self._domains(chosen, faults), self._uncovered.seconds, self._breakdown(), faults
        )

    def _counted(self, domains: Iterable[str]) -> list[str]:
        """Return the domains without mirrors of other ones."""
        return [domain for domain in domains if not self._mirrors.shows_another(domain)]

    def _judge_psys(self) -> None:
        """Decide which domains are booked, at a time that both cover exactly: nothing is booked twice."""
        psys, rest = self._counted(self._psys), self._counted(self._rest)
        if not (psys and rest and self._cover_interval(rest)):
            return
        if not self._cover_interval(psys):
            self._psys_failures += 1
            if self._by_psys and self._psys_failures >= _PSYS_PATIENCE:
                self._by_psys, self._recent_psys, self._recent_rest = False, 0.0, 0.0
                log.warning("rapl domains=%s psys=lost", ",".join(self._rest))
            return
        self._psys_failures = 0
        self._recent_psys += sum(self._tracks[d].step for d in psys)
        self._recent_rest += sum(self._tracks[d].step for d in rest)
        believed = self._recent_psys > 0 and self._recent_psys >= _PSYS_TOLERANCE * self._recent_rest
        if self._recent_rest > _PSYS_WINDOW_JOULES:
            self._recent_psys, self._recent_rest = self._recent_psys / 2, self._recent_rest / 2
        if believed != self._by_psys:
            self._by_psys = believed
            log.info(
                "rapl domains=%s psys_joules=%.3f contained_joules=%.3f",
                "psys" if believed else ",".join(self._rest),
                self._recent_psys,
                self._recent_rest,
            )

    def _cover_interval(self, domains: list[str]) -> bool:
        return all(self._tracks[domain].step_is_last_interval for domain in domains)

    def _domains(self, chosen: list[str], faults: Mapping[str, str]) -> tuple[DomainEnergy, ...]:
        return tuple(
            DomainEnergy(
                domain,
                joules,
                self.source,
                self.method,
                self._tracks[domain].watts if domain in chosen and not faults else None,
            )
            for domain, joules in self._booked.items()
            if joules > 0 or domain in chosen
        )

    def _breakdown(self) -> tuple[DomainEnergy, ...]:
        """Return packages and memory as parts of psys, and cores as parts of the packages, in joules."""
        result: list[DomainEnergy] = []
        for by_psys, whole in ((True, self._psys), (False, self._rest)):
            room = sum(self._booked[domain] for domain in whole)
            fitted = self._fitted[by_psys].fit(room, self._inside[by_psys])
            live = self._counted(fitted) if by_psys == self._by_psys else ()
            result += [
                DomainEnergy(
                    name, joules, self.source, self.method, self._tracks[name].watts if name in live else None
                )
                for name, joules in fitted.items()
                if joules or name in live
            ]
        return tuple(result)

    def _joules(self, zone: Zone) -> float | None:
        try:
            joules = read_number(zone.energy, self._read_attribute) / 1e6
        except UNREADABLE as error:
            if zone.domain not in self._lost:
                self._lost.add(zone.domain)
                log.warning("sensor lost source=rapl domain=%s error=%s", zone.domain, reason(error))
            return None
        if zone.domain in self._lost:
            self._lost.remove(zone.domain)
            log.info("sensor back source=rapl domain=%s", zone.domain)
        return joules


def open_rapl(sysfs: Path, read: Read = read_attribute) -> RaplMeter:
    """Open the processor's counters.

    Raises:
        MeterUnavailable: There are no counters, or reading them is not permitted.
    """
    zones = find_zones(sysfs, read)
    if is_amd(sysfs, zones, read):
        # AMD's zone core counts only the core that the driver reads, not all of them.
        zones = [zone for zone in zones if zone.name != "core"]
    if not any(zone.is_whole or zone.is_psys for zone in zones):
        found = f"no zone intel-rapl:* with a package, dram or psys in {sysfs / 'class' / 'powercap'}"
        raise MeterUnavailable("rapl", found)
    usable, errors = [], []
    for zone in zones:
        try:
            read_number(zone.energy, read)
        except BlockingIOError:
            usable.append(zone)
        except UNREADABLE as error:
            errors.append(error)
        else:
            usable.append(zone)
    forbidden = any(isinstance(error, PermissionError) for error in errors)
    if not any(zone.is_whole or zone.is_psys for zone in usable):
        raise MeterUnavailable("rapl", f"cannot read {reason(errors[0])}", REMEDY if forbidden else "")
    return RaplMeter(usable, read)


def is_amd(sysfs: Path, zones: Sequence[Zone], read: Read = read_attribute) -> bool:
    """Return whether the processor is AMD's: by the kernel's name, its temperature chip, or its zones."""
    modalias = text_or_none(sysfs / "devices" / "system" / "cpu" / "modalias", read)
    if modalias is not None and (vendor := re.search(r"ven([0-9A-Fa-f]{4})", modalias)):
        return int(vendor[1], 16) in _AMD_VENDORS
    chips = {text_or_none(folder / "name", read) for folder in entries(sysfs / "class" / "hwmon", "hwmon")}
    if chips & {"k10temp", "zenpower", "amd_energy", "coretemp"}:
        return "coretemp" not in chips
    # Intel's processors have more zones, or another unit of energy, and AMD's never do.
    ranges = {zone.range_joules for zone in zones}
    return {zone.name for zone in zones if not zone.is_whole} == {"core"} and ranges == {_AMD_RANGE_JOULES}


def _order(name: str) -> tuple[str, tuple[int, ...]] | None:
    """Return a sorting key: ``intel-rapl`` before its mmio twin, parents before children, zone a after 9."""
    match = _ZONE.fullmatch(name)
    if match is None:
        return None
    return match[1], tuple(int(part, 16) for part in match[2].split(":")[1:])
