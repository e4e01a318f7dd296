"""Chain of several meters of one board, best first: an implausible one is replaced as long as it is so."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dance_ondevice.energy.reading import (
    DomainEnergy,
    EnergyReading,
    Glance,
    Method,
    Scope,
    SourceMeter,
)
from dance_ondevice.energy.tracks import Parts

log = logging.getLogger(__name__)

#: Seconds of a failure after which the next meter takes over; a meter bridges shorter ones by itself.
PATIENCE_S = 1.0
#: Seconds for which a better meter must be plausible before it is used again.
PROBATION_S = 10.0
#: Seconds between reads of meters that are not in use.
_ASIDE_S = 1.0
#: Least power of a board as a share of the power of its processor alone; less is implausible.
LEAST_OF_PART = 0.8
#: Least power in watts for such a comparison.
_LEAST_WATTS = 0.5

_Key = tuple[str, str, Method]


@dataclass
class _Sum:
    """Joules and unmeasured seconds of a time interval, by domain."""

    whole: dict[_Key, float] = field(default_factory=dict)
    parts: dict[_Key, float] = field(default_factory=dict)
    unmeasured: float = 0.0

    def add(self, other: _Sum) -> None:
        for mine, theirs in ((self.whole, other.whole), (self.parts, other.parts)):
            for key, joules in theirs.items():
                mine[key] = mine.get(key, 0.0) + joules
        self.unmeasured += other.unmeasured


class _Tap:
    """A meter and its last reading, which returns the joules since then."""

    def __init__(self, meter: SourceMeter) -> None:
        self.meter = meter
        self.last: EnergyReading | None = None
        self.at = 0.0

    def take(self, now: float) -> _Sum:
        """Read the meter; return the joules and unmeasured seconds since the last read, none at the first."""
        before, reading = self.last, self.meter.read(now)
        self.last, self.at = reading, now
        if before is None:
            return _Sum(_by_key(reading.domains, {}), _by_key(reading.breakdown, {}))
        return _Sum(
            _by_key(reading.domains, {_key(d): d.joules for d in before.domains}),
            _by_key(reading.breakdown, {_key(d): d.joules for d in before.breakdown}),
            max(0.0, reading.unmeasured_seconds - before.unmeasured_seconds),
        )

    @property
    def fault(self) -> str:
        """Return why the last reading is incomplete; empty if it is complete."""
        return "; ".join(dict.fromkeys(self.last.faults.values())) if self.last else ""


class _Mean:
    """Mean watts of a meter over a window of time."""

    def __init__(self, now: float) -> None:
        self.since = now
        self._sum = self._count = 0.0

    def add(self, watts: float | None) -> None:
        if watts is not None:
            self._sum, self._count = self._sum + watts, self._count + 1

    @property
    def watts(self) -> float | None:
        return self._sum / self._count if self._count else None


class Chain:
    """Meter that uses the best plausible one of several meters.

    Every moment is booked to one meter only. States of the chain: the meter in use is plausible; it fails,
    and the next plausible one is on standby from that moment; after ``PATIENCE_S`` that one is in use, from
    the begin of its standby, and the time before is unmeasured. A better meter that is not in use is still
    read, and is used again once it was plausible for ``PROBATION_S``.

    A meter of the board must not show less power than a counter of the processor.

    Not thread-safe: one thread reads it.
    """

    def __init__(self, meters: Sequence[SourceMeter], doubts: Mapping[int, str] | None = None) -> None:
        """Check the meters and start with the first plausible one.

        Args:
            meters: Candidates, best first, at least one.
            doubts: Known reasons against some of them, by their indices.
        """
        self._taps = [_Tap(meter) for meter in meters]
        #: Reason why each meter that is better than the one in use is not used, by index.
        self.passed: dict[int, str] = dict(doubts or {})
        self._active = self._first_sound()
        self._booked, self._held = _Sum(), _Sum()
        self._fitted: Parts[_Key] = Parts()
        self._settled: float | None = None
        self._standby: tuple[int, float, _Sum] | None = None
        self._searched: float | None = None
        self._window: tuple[_Mean, _Mean] | None = None
        self._aside: dict[int, _Mean] = {}

    @property
    def meter(self) -> SourceMeter:
        """Return the meter in use."""
        return self._taps[self._active].meter

    @property
    def source(self) -> str:
        """Return the name of the source in use."""
        return self.meter.source

    @property
    def method(self) -> Method:
        """Return the method of measurement in use."""
        return self.meter.method

    @property
    def period_s(self) -> float:
        """Return the seconds between reads that the meter in use needs."""
        return self.meter.period_s

    @property
    def scope(self) -> Scope:
        """Return the part of the machine that the meter in use measures."""
        return self.meter.scope

    @property
    def about(self) -> str:
        """Describe what is measured at present, and which better meters are not used."""
        gave_way = [
            f"{self._taps[i].meter.source} is passed over while it lasts: {why}"
            for i, why in sorted(self.passed.items())
            if i < self._active
        ]
        return "; ".join((self.meter.about, *dict.fromkeys(gave_way)))

    def glance(self) -> Glance:
        """Return the present values of the sensors in use; a doubt if none is plausible."""
        seen = self.meter.glance()
        if not seen.doubt:
            return seen
        glances = [tap.meter.glance() for tap in self._taps]
        sound = next((glance for glance in glances if not glance.doubt), None)
        return sound or Glance(None, "; ".join(dict.fromkeys(glance.doubt for glance in glances)))

    def read(self, now: float) -> EnergyReading:
        """Return the energy since the first read; see ``Meter``."""
        tap = self._taps[self._active]
        new = tap.take(now)
        if self._settled is None:
            self._settled = now
        fault = tap.fault or self._too_little(now)
        if not fault:
            self._book_held(now)
            self._book(new)
            self._standby = self._searched = None
            self._reconsider(now)
        else:
            if self._standby is None and not self._held.unmeasured:
                # A counter is known to stand still only after a while: that time is unmeasured.
                before = max(0.0, new.unmeasured - (now - self._settled))
                self._booked.unmeasured += before
                new.unmeasured -= before
            self._held.add(new)
            self._stand_by(now, fault)
        return self._reading(fault)

    def _first_sound(self) -> int:
        for i, tap in enumerate(self._taps):
            doubt = self.passed.get(i) or tap.meter.glance().doubt
            if not doubt:
                return i
            self.passed[i] = doubt
        self.passed.clear()
        return 0

    def _book(self, amount: _Sum) -> None:
        self._booked.add(amount)

    def _stand_by(self, now: float, fault: str) -> None:
        """Let the next plausible meter take over from the time of its first read."""
        if self._standby is None:
            i = self._next_sound(now)
            if i is None:  # no other meter is plausible: only this one's joules are known
                self._book_held(now)
            else:
                self._standby = i, now, _Sum()
            return
        i, since, amount = self._standby
        settled = self._settled if self._settled is not None else now
        over = now - settled > PATIENCE_S
        tap = self._taps[i]
        if not over and now - tap.at < tap.meter.period_s:
            return
        amount.add(tap.take(now))
        if tap.fault:
            self._standby = None
            self._book_held(now)
        elif over:
            amount.unmeasured += since - settled
            self._book(amount)
            self._use(i, now, fault)

    def _next_sound(self, now: float) -> int | None:
        # Reading another source may start a process, so it is not done ten times a second.
        if self._searched is not None and now - self._searched < _ASIDE_S:
            return None
        self._searched = now
        for i in range(self._active + 1, len(self._taps)):
            tap = self._taps[i]
            if not tap.meter.glance().doubt:
                tap.take(now)
                if not tap.fault:
                    return i
        return None

    def _book_held(self, now: float) -> None:
        self._book(self._held)
        self._held, self._settled = _Sum(), now

    def _use(self, i: int, now: float, why: str) -> None:
        before = self.meter
        if i > self._active:
            self.passed[self._active] = why
            log.warning(
                "meter gives way source=%s to=%s reason=%s", before.source, self._taps[i].meter.source, why
            )
        else:
            self.passed.pop(i, None)
            log.info("meter is back source=%s instead_of=%s", self._taps[i].meter.source, before.source)
        self._active, self._settled = i, now
        self._held, self._standby, self._window = _Sum(), None, None
        self._aside.clear()

    def _reconsider(self, now: float) -> None:
        """Read better meters; use the best one that was plausible for long enough again."""
        mine = self._taps[self._active].last
        for i in range(self._active):
            tap = self._taps[i]
            if tap.last is not None and now - tap.at < _ASIDE_S:
                continue
            tap.take(now)
            watts = tap.last.watts if tap.last else None
            if tap.fault:
                self._aside.pop(i, None)
                self.passed[i] = tap.fault
                continue
            mean = self._aside.setdefault(i, _Mean(now))
            mean.add(watts)
            if now - mean.since >= PROBATION_S and self._above_mine(tap.meter, mean, mine):
                self._use(i, now, "")
                return

    def _above_mine(self, meter: SourceMeter, mean: _Mean, mine: EnergyReading | None) -> bool:
        if not mean.watts:
            return False
        part = _floor(mine) if self.meter.scope != "board" else None
        return meter.scope == "part" or part is None or mean.watts >= LEAST_OF_PART * part

    def _too_little(self, now: float) -> str:
        """Return the fault if the meter in use is the board's but shows less than the processor alone."""
        below = next(
            (
                t
                for t in self._taps[self._active + 1 :]
                if t.meter.scope == "part" and t.meter.method == "counter"
            ),
            None,
        )
        if self.meter.scope == "part" or below is None:
            return ""
        if self._window is None:
            self._window = _Mean(now), _Mean(now)
        mine, theirs = self._window
        last = self._taps[self._active].last
        mine.add(last.watts if last else None)
        if now - below.at >= _ASIDE_S or below.last is None:
            if self._standby is None or self._taps[self._standby[0]] is not below:
                below.take(now)
            theirs.add(_floor(below.last))
        if now - mine.since < PROBATION_S:
            return ""
        seen, part = mine.watts, theirs.watts
        if seen is not None and part is not None and part > _LEAST_WATTS and seen < LEAST_OF_PART * part:
            return (
                f"it reads {seen:.2f} W, and {below.meter.source} counts {part:.2f} W for a part of the board"
            )
        self._window = None
        return ""

    def _reading(self, fault: str) -> EnergyReading:
        last = self._taps[self._active].last
        now_known = {_key(d): d.watts for d in (*last.domains, *last.breakdown)} if last and not fault else {}
        live = {_key(d) for d in last.domains} if last else set()
        domains = tuple(
            DomainEnergy(key[0], joules, key[1], key[2], now_known.get(key))
            for key, joules in self._booked.whole.items()
            if joules > 0 or key in live
        )
        # Time that was booked to another meter is missing from the whole, but may be in its parts.
        fitted = self._fitted.fit(sum(self._booked.whole.values()), self._booked.parts)
        breakdown = tuple(
            DomainEnergy(key[0], joules, key[1], key[2], now_known.get(key)) for key, joules in fitted.items()
        )
        faults = {d.domain: fault for d in last.domains} if last and fault else {}
        return EnergyReading(domains, self._booked.unmeasured, breakdown, faults)


def _floor(reading: EnergyReading | None) -> float | None:
    """Return the watts that a board draws at least, by a reading of parts of it.

    A platform's figure (psys) depends on the maker and may be too large: the domains that it contains count.
    """
    if reading is None:
        return None
    domains = [d for d in reading.domains if not d.domain.startswith("psys")]
    if not any(d.watts for d in domains):
        domains = list(reading.breakdown)
    told = [d.watts for d in domains if d.watts is not None]
    return sum(told) if told else None


def _key(domain: DomainEnergy) -> _Key:
    return domain.domain, domain.source, domain.method


def _by_key(domains: Sequence[DomainEnergy], before: dict[_Key, float]) -> dict[_Key, float]:
    return {_key(d): max(0.0, d.joules - before.get(_key(d), 0.0)) for d in domains}
