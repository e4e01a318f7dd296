"""Meter of several sensors: it samples all of them at once and integrates each one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dance_ondevice.energy.reading import DomainEnergy, EnergyReading, Glance, Method, Scope
from dance_ondevice.energy.tracks import MAX_WATTS, NOISE_WATTS, Parts, Stall, Track, Uncovered

log = logging.getLogger(__name__)

#: Seconds between reads: power must be sampled often to be integrated, counters need no frequent reads.
POWER_PERIOD_S = 0.1
COUNTER_PERIOD_S = 1.0
#: Least watts of a board at work: a sensor that is not ready reads 0, and one whose driver prints mW or mA
#: a thousandth of what it should.
LEAST_WATTS = 0.05


class MeterUnavailable(RuntimeError):  # noqa: N818 - a state of the world
    """Error: the machine does not have a source, or the source cannot be read or is implausible.

    Attributes:
        source: Name of the source.
        remedy: Action that the user can take; empty if the machine does not have the source.
        offer: Setting that the user could choose if no better source is found; often empty.
    """

    def __init__(self, source: str, found: str, remedy: str = "", offer: str = "") -> None:
        super().__init__(f"energy meter {source}: {found}" + (f"; {remedy}" if remedy else ""))
        self.source = source
        self.remedy = remedy
        self.offer = offer


@dataclass(frozen=True)
class Sample:
    """Values of the sensors: joules of counters or watts by domain, and the errors of the other domains."""

    values: Mapping[str, float]
    faults: Mapping[str, str] = field(default_factory=dict)


class SensorMeter:
    """Meter of the cumulative joules of one source's sensors.

    Implausible figures are not used: a power that no board draws, a power of 0 at a board's input, and a
    counter that stands still for long. The time of such readings counts as unmeasured.

    Not thread-safe: one thread reads it.
    """

    def __init__(
        self,
        *,
        source: str,
        about: str,
        period_s: float,
        sample: Callable[[], Sample],
        whole: Mapping[str, Track],
        parts: Mapping[str, Track] | None = None,
        scope: Scope = "part",
        may_rest: bool = False,
    ) -> None:
        """Start counting at the first ``read``.

        Args:
            source: Name of the source in the readings.
            about: Description of what it measures, in a sentence for the user.
            period_s: Seconds between reads that the meter needs.
            sample: Function that reads all sensors; it is called once for each read.
            whole: Tracks of domains that do not overlap.
            parts: Tracks of parts of those, reported as the breakdown.
            scope: Part of the machine that it measures.
            may_rest: True if the measured load may draw no power at all, which a board never does.
        """
        self.source = source
        self.about = about
        self.period_s = period_s
        self.scope: Scope = scope
        counters = all(track.method == "counter" for track in whole.values())
        self.method: Method = "counter" if counters else "integrated"
        self._sample = sample
        self._whole = dict(whole)
        self._parts = dict(parts or {})
        self._fitted: Parts[str] = Parts()
        self._uncovered = Uncovered()
        self._lost: set[str] = set()
        self._last: float | None = None
        self._may_rest = may_rest
        self._stall = Stall()

    def read(self, now: float) -> EnergyReading:
        """Return the energy since the first read; see ``Meter``."""
        now = self._last = now if self._last is None else max(now, self._last)
        sample = self._believed(self._sample())
        for name, track in self._whole.items():
            self._uncovered.add(track.update(now, sample.values.get(name)))
        for name, track in self._parts.items():
            track.update(now, sample.values.get(name))
        self._tell(sample)
        total = sum(track.joules for track in self._whole.values())
        faults = {
            name: sample.faults.get(name, "no reading") for name in self._whole if name not in sample.values
        }
        if self.method == "counter" and not self._may_rest and self._stall.since(now, total):
            self._uncovered.add(self._stall.span)
            faults = faults or dict.fromkeys(self._whole, self._stall.words)
        parts = self._fitted.fit(total, {name: track.joules for name, track in self._parts.items()})
        return EnergyReading(
            tuple(
                self._energy(name, track.joules, track, known=name not in faults)
                for name, track in self._whole.items()
            ),
            self._uncovered.seconds,
            tuple(self._energy(name, joules, self._parts[name]) for name, joules in parts.items()),
            faults,
        )

    def glance(self) -> Glance:
        """Return the present values of the sensors, without booking energy."""
        raw = self._sample()
        doubts = {name: why for name, why in self._doubts(raw).items() if name in self._whole}
        if doubts:
            return Glance(None, "; ".join(dict.fromkeys(doubts.values())))
        refused = [raw.faults[name] for name in self._whole if name in raw.faults]
        powers = all(track.method == "integrated" for track in self._whole.values())
        if refused or not powers:
            return Glance()
        return Glance(sum(max(0.0, raw.values[name]) for name in self._whole if name in raw.values))

    def _believed(self, sample: Sample) -> Sample:
        doubts = self._doubts(sample)
        if not doubts:
            return sample
        values = {name: value for name, value in sample.values.items() if name not in doubts}
        return Sample(values, {**sample.faults, **doubts})

    def _doubts(self, sample: Sample) -> dict[str, str]:
        """Return what is wrong with implausible figures, by domain."""
        doubts = {}
        for name, track in (*self._whole.items(), *self._parts.items()):
            value = sample.values.get(name)
            if value is None or track.method != "integrated":
                continue
            if not -NOISE_WATTS <= value <= MAX_WATTS:
                doubts[name] = f"{name} reads {value:g} W, which no board draws"
        powers = [sample.values.get(n) for n, t in self._whole.items() if t.method == "integrated"]
        known = [value for value in powers if value is not None]
        if (
            not self._may_rest
            and not doubts.keys() & self._whole.keys()
            and len(known) == len(self._whole)
            and (sum(known) <= 0 or (self.scope != "part" and sum(known) < LEAST_WATTS))
        ):
            power = "power" if sum(known) <= 0 else "more"
            why = f"{' + '.join(self._whole)} reads {sum(known):g} W, but a board always draws {power}"
            doubts.update(dict.fromkeys(self._whole, why))
        return doubts

    def _energy(self, domain: str, joules: float, track: Track, *, known: bool = True) -> DomainEnergy:
        return DomainEnergy(domain, joules, self.source, track.method, track.watts if known else None)

    def _tell(self, sample: Sample) -> None:
        """Log each sensor that was lost or came back, once, not ten times a second."""
        for name in (*self._whole, *self._parts):
            if name not in sample.values and name not in self._lost:
                self._lost.add(name)
                why = sample.faults.get(name, "no reading")
                log.warning("sensor lost source=%s domain=%s error=%s", self.source, name, why)
            elif name in sample.values and name in self._lost:
                self._lost.remove(name)
                log.info("sensor back source=%s domain=%s", self.source, name)
