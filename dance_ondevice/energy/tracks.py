"""Tracks: joules from a series of readings that may fail, of counters that wrap or of power over time.

Both tracks book only measured energy. Time that the readings do not cover is returned as a span, to be
counted as unmeasured, without any estimate.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Generic, Literal, Protocol, TypeVar

#: Type of the keys of parts.
Key = TypeVar("Key", bound=Hashable)

#: Largest plausible power of a board or domain in watts; a larger step of a counter is a fault.
MAX_WATTS = 2000.0

#: Delay in seconds with which a step of a counter may be read: counters update in steps, RAPL in about 1 ms.
_UPDATE_SLACK_S = 0.1

#: Largest negative power in watts that counts as noise: a rail that is off reads a step or two below 0, and a
#: step is up to 0.4 W with the shunts of large rails.
NOISE_WATTS = 1.0

#: Start and end of time that was not measured, in monotonic seconds.
Span = tuple[float, float]


class Track(Protocol):
    """Interface that turns the readings of one sensor into cumulative joules; ``watts`` is the last power."""

    method: Literal["counter", "integrated"]
    joules: float
    watts: float | None

    def update(self, now: float, value: float | None) -> Span | None:
        """Take a reading (None: it failed) and return the time that it showed to be unmeasured."""
        ...


class CounterTrack:
    """Track of a counter that accumulates energy.

    States: no base yet (nothing was read); a base, the last accepted reading; a base and a doubt, a reading
    that does not follow from the base. The next reading that follows from either is booked from there, by the
    smaller step if it follows from both, so a reset costs one interval and a single outlier nothing.

    A fall is a wrap only if the range is known, the step over the wrap is plausible, and too little time
    passed for the counter to run its whole range: after a longer gap a reset could not be distinguished from
    a wrap.
    """

    method: Literal["counter", "integrated"] = "counter"

    def __init__(
        self,
        range_joules: float | None = None,
        *,
        watts_over_s: float = 0.0,
    ) -> None:
        """Start without a base.

        Args:
            range_joules: Value at which the counter starts again from 0; None if it never does.
            watts_over_s: Seconds over which ``watts`` is averaged, for counters that take large steps with
                long rests between them; a step may then be as large as its rest allows.
        """
        self.joules = 0.0
        self.watts: float | None = None
        #: Joules that the last update booked, and whether they are just those since the one before.
        self.step, self.step_is_last_interval = 0.0, False
        self._watts_over = watts_over_s
        self._anchor: tuple[float, float] | None = None
        self._range = range_joules
        self._base: tuple[float, float] | None = None
        self._doubt: tuple[float, float] | None = None
        self._last: float | None = None

    def update(self, now: float, value: float | None) -> Span | None:
        """Take the counter's value in joules; see ``Track``."""
        before, self._last = self._last, now
        self.step, self.step_is_last_interval = 0.0, False
        span = (before, now) if before is not None and now > before else None
        if value is None or not self._possible(value):
            self.watts, self._anchor = None, None
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
        rests = joules == 0 and self._watts_over > 0
        self._base, self._doubt = (since if rests else now, value), None
        self.joules += joules
        self.step, self.step_is_last_interval = joules, certain and since == before
        self._judge_watts(now, joules / (now - since) if certain and now > since else self.watts)
        return None if certain else span

    def _judge_watts(self, now: float, latest: float | None) -> None:
        if not self._watts_over:
            self.watts = latest
            return
        if self.step == 0:  # between two steps the power is that of the last ones
            return
        since, joules = self._anchor = self._anchor or (now, self.joules)
        if now - since >= self._watts_over:
            self.watts, self._anchor = (self.joules - joules) / (now - since), (now, self.joules)

    def _possible(self, value: float) -> bool:
        return math.isfinite(value) and value >= 0 and (self._range is None or value <= self._range)

    def _advance(self, elapsed: float, start: float, end: float) -> tuple[float, bool] | None:
        """Return the joules from one value to another and whether they are complete; None if implausible."""
        limit = MAX_WATTS * (elapsed + _UPDATE_SLACK_S)
        may_have_run_through = self._range is not None and limit >= self._range
        step = end - start
        if step < 0:
            if self._range is None or may_have_run_through:
                return None
            step += self._range
        return (step, not may_have_run_through) if step <= limit else None


class PowerTrack:
    """Track of power samples, integrated by the trapezoid rule over gaps of bounded length.

    A failed sample is bridged if the next good one comes within ``max_gap`` seconds of the last; otherwise
    all the time between them is unmeasured, and is returned once that is certain.
    """

    method: Literal["counter", "integrated"] = "integrated"

    def __init__(self, max_gap: float = 1.0) -> None:
        self.joules = 0.0
        self.watts: float | None = None
        self._max_gap = max_gap
        self._good: tuple[float, float] | None = None
        self._accounted: float | None = None

    def update(self, now: float, value: float | None) -> Span | None:
        """Take a sample in watts; see ``Track``."""
        if self._accounted is None:
            self._accounted = now
        near = self._good is not None and now - self._good[0] <= self._max_gap
        if value is None or not -NOISE_WATTS <= value <= MAX_WATTS:
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
    """Detector of counters of a board or processor that stand still, since both always draw power."""

    #: Seconds without a count after which a counter stands still; the slowest update a few times a second.
    PATIENCE_S = 10.0

    def __init__(self) -> None:
        self.span: Span | None = None
        self._joules = 0.0
        self._moved: float | None = None

    @property
    def words(self) -> str:
        """Return the fault in words, for the user."""
        return f"its counter has stood still for {self.PATIENCE_S:g} s or more"

    def since(self, now: float, joules: float) -> bool:
        """Return whether nothing was counted for too long; ``span`` is then the unmeasured time."""
        if self._moved is None or joules > self._joules:
            self._moved, self._joules, self.span = now, joules, None
            return False
        if now - self._moved <= self.PATIENCE_S:
            return False
        self.span = (self._moved, now)
        return True


class Uncovered:
    """Total of the seconds that at least one of several sensors did not measure, each counted once.

    Spans arrive in any order, since a power sensor returns its own a little late; the recent ones are kept,
    to be merged with later ones.
    """

    _KEPT = 64

    def __init__(self) -> None:
        self.seconds = 0.0
        self._recent: list[Span] = []

    def add(self, span: Span | None) -> None:
        """Count a span, without the time that is counted already."""
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
    """Published joules of parts: they never fall, and are never more than the whole.

    Sensors of a whole and of its parts are not read at one instant, so the raw sums may run ahead of the
    whole; the excess is published later, when the whole has grown.
    """

    def __init__(self) -> None:
        self._published: dict[Key, float] = {}

    def fit(self, whole: float, raw: Mapping[Key, float]) -> dict[Key, float]:
        """Return the parts' joules for a whole of `whole` joules; raw values and the whole never fall."""
        wanted = {name: max(0.0, joules - self._published.get(name, 0.0)) for name, joules in raw.items()}
        room, total = whole - sum(self._published.values()), sum(wanted.values())
        share = 0.0 if total <= 0 else min(1.0, max(0.0, room) / total)
        for name, joules in wanted.items():
            self._published[name] = self._published.get(name, 0.0) + joules * share
        return dict(self._published)
