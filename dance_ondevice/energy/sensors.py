"""A meter made of sensors: takes a sample of all of them at a time and keeps a track of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dance_ondevice.energy.reading import DomainEnergy, EnergyReading, Method
from dance_ondevice.energy.tracks import Parts, Track, Uncovered

log = logging.getLogger(__name__)

#: Seconds between reads: power must be sampled often to be integrated, a counter loses nothing meanwhile.
POWER_PERIOD_S = 0.1
COUNTER_PERIOD_S = 1.0


class MeterUnavailable(RuntimeError):  # noqa: N818 - a state of the world
    """A source that this machine does not have, or that cannot be read.

    Attributes:
        source: its name.
        remedy: what the user can do about it; empty where the source is simply not there.
    """

    def __init__(self, source: str, found: str, remedy: str = "") -> None:
        super().__init__(f"energy meter {source}: {found}" + (f"; {remedy}" if remedy else ""))
        self.source = source
        self.remedy = remedy


@dataclass(frozen=True)
class Sample:
    """What the sensors said: joules of counters or watts by domain, and why the others said nothing."""

    values: Mapping[str, float]
    faults: Mapping[str, str] = field(default_factory=dict)


class SensorMeter:
    """Cumulative joules of the sensors of one source.

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
    ) -> None:
        """Start counting at the first ``read``.

        Args:
            source: name of the source in the readings.
            about: what it measures, in a sentence for the user.
            period_s: seconds between reads that it wants.
            sample: reads all sensors; called once a read.
            whole: tracks of domains that do not overlap.
            parts: tracks of parts of those, reported as the breakdown.
        """
        self.source = source
        self.about = about
        self.period_s = period_s
        counters = all(track.method == "counter" for track in whole.values())
        self.method: Method = "counter" if counters else "integrated"
        self._sample = sample
        self._whole = dict(whole)
        self._parts = dict(parts or {})
        self._fitted = Parts()
        self._uncovered = Uncovered()
        self._lost: set[str] = set()
        self._last: float | None = None

    def read(self, now: float) -> EnergyReading:
        """The energy since the first read; see ``Meter``."""
        now = self._last = now if self._last is None else max(now, self._last)
        sample = self._sample()
        for name, track in self._whole.items():
            self._uncovered.add(track.update(now, sample.values.get(name)))
        for name, track in self._parts.items():
            track.update(now, sample.values.get(name))
        self._tell(sample)
        total = sum(track.joules for track in self._whole.values())
        parts = self._fitted.fit(total, {name: track.joules for name, track in self._parts.items()})
        return EnergyReading(
            tuple(self._energy(name, track.joules, track) for name, track in self._whole.items()),
            self._uncovered.seconds,
            tuple(self._energy(name, joules, self._parts[name]) for name, joules in parts.items()),
        )

    def _energy(self, domain: str, joules: float, track: Track) -> DomainEnergy:
        return DomainEnergy(domain, joules, self.source, track.method)

    def _tell(self, sample: Sample) -> None:
        """Log what was lost and what came back: once each, not ten times a second."""
        for name in (*self._whole, *self._parts):
            if name not in sample.values and name not in self._lost:
                self._lost.add(name)
                why = sample.faults.get(name, "no reading")
                log.warning("sensor lost source=%s domain=%s error=%s", self.source, name, why)
            elif name in sample.values and name in self._lost:
                self._lost.remove(name)
                log.info("sensor back source=%s domain=%s", self.source, name)
