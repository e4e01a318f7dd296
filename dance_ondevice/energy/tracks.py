"""Joules out of a stream of readings that may fail: from counters that wrap, and from power over time.

Both tracks keep to one rule: what is booked was there. Time that the readings do not cover is handed back as
a span, to be counted as unmeasured, and nothing is guessed for it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Generic, Literal, Protocol, TypeVar

#: What a part is called by.
Key = TypeVar("Key", bound=Hashable)

#: More than any board or domain that this project runs on draws; a step above it is no energy but a fault.
MAX_WATTS = 2000.0

#: Counters are updated in steps of their own, about 1 ms for RAPL: a step may be read this many seconds late.
_UPDATE_SLACK_S = 0.1

#: A rail that is switched off reads a step or two below nothing, and a step is up to 0.4 W with the shunts of
#: large rails. Beyond that its power is wrong, not small.
NOISE_WATTS = 1.0

#: Start and end of time that was not measured, in monotonic seconds.
Span = tuple[float, float]


class Track(Protocol):
    """Turns the readings of one sensor into cumulative joules; ``watts`` is the power at the last of them."""

    method: Literal["counter", "integrated"]
    joules: float
    watts: float | None

    def update(self, now: float, value: float | None) -> Span | None:
        """Take a reading (None: it failed) and return the time that is now known to be uncovered."""
        ...


class CounterTrack:
    """Joules of a counter that accumulates energy.

    States: no base yet (nothing was read); a base, the last reading that is believed; a base and a doubt,
    a reading that does not follow from the base. The next reading that follows from either is booked from
    there, by the smaller step when from both, so a reset costs one interval and a single wild value nothing.

    A fall is a wrap only when the range is known, the step over the wrap is plausible, and too little time
    went by for the counter to have run its whole range: after a longer gap a reset would look the same.
    """

    method: Literal["counter", "integrated"] = "counter"

    def __init__(
        self,
        range_joules: float | None = None,
        max_watts: float = MAX_WATTS,
        *,
        watts_over_s: float = 0.0,
    ) -> None:
        """Start without a base.

        Args:
            range_joules: the value at which the counter starts again from 0; None if it never does.
            max_watts: a step above it is no energy but a fault.
            watts_over_s: seconds over which ``watts`` is averaged, for counters that take large steps.
        """
        self.joules = 0.0
        self.watts: float | None = None
        #: Joules that the last update booked, and whether they are just those since the one before.
        self.step, self.step_is_last_interval = 0.0, False
        self._watts_over = watts_over_s
        self._anchor: tuple[float, float] | None = None
        self._range = range_joules
        self._max_watts = max_watts
        self._base: tuple[float, float] | None = None
        self._doubt: tuple[float, float] | None = None
        self._last: float | None = None

    def update(self, now: float, value: float | None) -> Span | None:
        """Take the counter's value in joules; see ``Track``."""
        before, self._last = self._last, now
        self.step, self.step_is_last_interval = 0.0, False
        span = (before, now) if before is not None and now > before else None
        if value is None or not self._possible(value):
            self.watts = None
            return span
        if self._base is None:
            self._base = (now, value)
            return span
        follows = [
            (*step, since)
            for since, at in filter(None, (self._base, self._doubt))
            if (step := self._advance(now - since, at, value)) is not None
        ]
        if not follows:
            self._doubt, self.watts = (now, value), None
            return span
        joules, certain, since = min(follows)
        self._base, self._doubt = (now, value), None
        self.joules += joules
        self.step, self.step_is_last_interval = joules, certain and since == before
        self._judge_watts(now, joules / (now - since) if certain and now > since else self.watts)
        return None if certain else span

    def _judge_watts(self, now: float, latest: float | None) -> None:
        if not self._watts_over:
            self.watts = latest
            return
        since, joules = self._anchor = self._anchor or (now, self.joules)
        if now - since >= self._watts_over:
            self.watts, self._anchor = (self.joules - joules) / (now - since), (now, self.joules)

    def _possible(self, value: float) -> bool:
        return math.isfinite(value) and value >= 0 and (self._range is None or value <= self._range)

    def _advance(self, elapsed: float, start: float, end: float) -> tuple[float, bool] | None:
        """Joules from one value to another and whether they are all; None when that cannot be."""
        limit = self._max_watts * (elapsed + _UPDATE_SLACK_S)
        may_have_run_through = self._range is not None and limit >= self._range
        step = end - start
        if step < 0:
            if self._range is None or may_have_run_through:
                return None
            step += self._range
        return (step, not may_have_run_through) if step <= limit else None


class PowerTrack:
    """Joules of power samples, by the trapezoid rule over gaps of bounded length.

    A sample that fails is bridged when the next good one comes within ``max_gap`` seconds of the last;
    otherwise all the time between them is uncovered, and handed back as it becomes certain.
    """

    method: Literal["counter", "integrated"] = "integrated"

    def __init__(self, max_gap: float = 1.0, max_watts: float = MAX_WATTS) -> None:
        self.joules = 0.0
        self.watts: float | None = None
        self._max_gap = max_gap
        self._max_watts = max_watts
        self._good: tuple[float, float] | None = None
        self._accounted: float | None = None

    def update(self, now: float, value: float | None) -> Span | None:
        """Take a sample in watts; see ``Track``."""
        if self._accounted is None:
            self._accounted = now
        near = self._good is not None and now - self._good[0] <= self._max_gap
        if value is None or not -NOISE_WATTS <= value <= self._max_watts:
            if near:
                return None
            self.watts = None
            return self._uncovered(now)
        watts, span = max(0.0, value), None
        self.watts = watts
        if self._good is not None and near:
            since, before = self._good
            self.joules += (before + watts) / 2 * (now - since)
        else:
            span = self._uncovered(now)
        self._good, self._accounted = (now, watts), now
        return span

    def _uncovered(self, now: float) -> Span | None:
        since, self._accounted = self._accounted, now
        return (since, now) if since is not None and now > since else None


class Stall:
    """Notices counters of a whole board or processor that stand still: something always draws power."""

    #: The slowest counters that are known are updated a few times a second.
    PATIENCE_S = 10.0

    def __init__(self) -> None:
        self.span: Span | None = None
        self._joules = 0.0
        self._moved: float | None = None

    @property
    def words(self) -> str:
        """What is wrong, for the user."""
        return f"its counter has stood still for {self.PATIENCE_S:g} s or more"

    def since(self, now: float, joules: float) -> bool:
        """Whether nothing was counted for too long; ``span`` is then the time that is not covered."""
        if self._moved is None or joules > self._joules:
            self._moved, self._joules, self.span = now, joules, None
            return False
        if now - self._moved <= self.PATIENCE_S:
            return False
        self.span = (self._moved, now)
        return True


class Uncovered:
    """Seconds that at least one of several sensors left uncovered, each counted once.

    Spans arrive in any order, since a power sensor hands back its own a little late; the recent ones are kept
    to be merged with.
    """

    _KEPT = 64

    def __init__(self) -> None:
        self.seconds = 0.0
        self._recent: list[Span] = []

    def add(self, span: Span | None) -> None:
        """Count a span, less what is counted already."""
        if span is None:
            return
        before = sum(end - start for start, end in self._recent)
        merged: list[Span] = []
        for start, end in sorted([*self._recent, span]):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        # Rounding must not let the total fall.
        self.seconds += max(0.0, sum(end - start for start, end in merged) - before)
        self._recent = merged[-self._KEPT :]


class Parts(Generic[Key]):
    """Joules of parts as they are published: never falling, never more than the whole that they are parts of.

    Sensors of a whole and of its parts are not read at one instant, so the raw sums may run ahead of the
    whole; what has no room yet waits until there is.
    """

    def __init__(self) -> None:
        self._published: dict[Key, float] = {}

    def fit(self, whole: float, raw: Mapping[Key, float]) -> dict[Key, float]:
        """The parts' joules for a whole of so many joules; raw values and the whole never fall."""
        wanted = {name: max(0.0, joules - self._published.get(name, 0.0)) for name, joules in raw.items()}
        room, total = whole - sum(self._published.values()), sum(wanted.values())
        share = 0.0 if total <= 0 else min(1.0, max(0.0, room) / total)
        for name, joules in wanted.items():
            self._published[name] = self._published.get(name, 0.0) + joules * share
        return dict(self._published)
