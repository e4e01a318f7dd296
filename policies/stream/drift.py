"""Drift detection: two published detectors on each signal of a camera's stream.

ADWIN (Bifet and Gavalda, "Learning from time-changing data with adaptive windowing", SDM 2007) keeps a window
of values and drops its older part if two parts differ by more than chance allows; it needs no scale and finds
small lasting changes. The Page-Hinkley test (Page, "Continuous inspection schemes", Biometrika 1954) adds up
deviations beyond a tolerance; it finds large changes within a few frames. Either one raises the alarm, after
which both are reset, so that one change is one alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "SIGNALS",
    "Adwin",
    "DriftRules",
    "DriftState",
    "PageHinkley",
    "Signal",
    "adwin",
    "forget",
    "observe",
    "page_hinkley",
]

#: Number of buckets of one size that ADWIN keeps before it merges the two oldest (M in the paper).
_SAME_SIZE = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """A figure that the detectors watch.

    Attributes:
        low: Least possible value.
        high: Largest possible value.
        unit: Usual deviation from frame to frame, the least that deviations are measured by: in a static
            scene every cloud would raise an alarm otherwise.
        falls_only: True if only a fall raises an alarm.
    """

    low: float = 0.0
    high: float = 1.0
    unit: float
    falls_only: bool = False


#: Signals that the daemon watches. Units are at most half of the difference between day and dusk of a street.
SIGNALS: Mapping[str, Signal] = {
    "luma": Signal(unit=0.04),
    "contrast": Signal(unit=0.025),
    "warmth": Signal(low=-1.0, unit=0.015),
    "tint": Signal(low=-1.0, unit=0.01),
    "complexity": Signal(unit=0.05),
    "confidence": Signal(unit=0.03, falls_only=True),
    "accuracy": Signal(unit=0.05, falls_only=True),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftRules:
    """Settings of the detectors.

    Attributes:
        delta: False-alarm probability of one test of ADWIN on an unchanged window.
        look_every: Number of values between two tests of ADWIN.
        most_values: Largest number of values in ADWIN's window.
        tolerance: Distance from the mean, in deviations, that the Page-Hinkley test does not add up.
        threshold: Threshold of the Page-Hinkley test, in deviations. Independent values give a false alarm
            less than once in 10,000 (measured; a skewed distribution is the worst), and a shift by 3
            deviations is found within 24. Frames of a video are not independent: there an alarm means a
            changed scene.
        least_values: Number of values from which the Page-Hinkley test learns mean and deviation first.
    """

    delta: float = 0.002
    look_every: int = 4
    most_values: int = 4096
    tolerance: float = 0.5
    threshold: float = 15.0
    least_values: int = 32


@dataclass(frozen=True, slots=True)
class _Bucket:
    count: int
    mean: float
    squares: float  # sum of squared deviations from the mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Adwin:
    """ADWIN's window as an exponential histogram: buckets of 1, 2, 4, ... values, the oldest first."""

    buckets: tuple[_Bucket, ...] = ()
    seen: int = 0

    @property
    def values(self) -> int:
        """Return the number of values in the window."""
        return sum(bucket.count for bucket in self.buckets)

    @property
    def mean(self) -> float:
        """Return the mean of the window; 0 for an empty one."""
        return _pool(self.buckets).mean if self.buckets else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PageHinkley:
    """The Page-Hinkley test, for both directions: sums of deviations above and below the mean so far."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    above: float = 0.0
    below: float = 0.0


@dataclass(frozen=True, slots=True)
class DriftState:
    """The detectors of one camera, by signal; `observe` returns the next state."""

    detectors: Mapping[str, tuple[Adwin, PageHinkley]] = field(default_factory=dict)


def observe(
    rules: DriftRules,
    state: DriftState,
    values: Mapping[str, float],
    signals: Mapping[str, Signal] = SIGNALS,
) -> tuple[DriftState, tuple[str, ...]]:
    """Take in one frame's figures.

    Args:
        rules: Settings of the detectors.
        state: State of this camera before this frame.
        values: Values of the frame by signal; those beyond a signal's range are clipped to it.
        signals: Known signals by name.

    Returns:
        The camera's state after this frame, and the names of the signals that have changed.

    Raises:
        ValueError: A value is not finite, or a name is not in ``signals``.
    """
    detectors, alarms = dict(state.detectors), []
    for name, value in values.items():
        if name not in signals:
            raise ValueError(f"no signal is called {name!r}; known: {', '.join(signals)}")
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}; it must be finite")
        signal = signals[name]
        # ADWIN's bound holds for values from 0 to 1.
        span = signal.high - signal.low
        scaled = min(1.0, max(0.0, (value - signal.low) / span))
        window, test = detectors.get(name, (Adwin(), PageHinkley()))
        window, cut = adwin(rules, window, scaled)
        test, jump = page_hinkley(rules, test, scaled, signal.unit / span)
        fell, rose = "fall" in (cut, jump), "rise" in (cut, jump)
        if fell or (rose and not signal.falls_only):
            alarms.append(name)
        detectors[name] = (Adwin(), PageHinkley()) if fell or rose else (window, test)
    return DriftState(detectors), tuple(alarms)


def forget(state: DriftState, names: Iterable[str]) -> DriftState:
    """Reset the detectors of some signals, because the measured quantity itself has changed."""
    gone = set(names)
    return DriftState({name: found for name, found in state.detectors.items() if name not in gone})


Change = Literal["", "rise", "fall"]


def adwin(rules: DriftRules, state: Adwin, value: float) -> tuple[Adwin, Change]:
    """Add a value from 0 to 1 to ADWIN's window; return the new window and how the mean has changed."""
    buckets = _compressed([*state.buckets, _Bucket(1, value, 0.0)])
    while sum(bucket.count for bucket in buckets) > max(2, rules.most_values):
        del buckets[0]
    change: Change = ""
    if (state.seen + 1) % rules.look_every == 0:
        while (found := _split(rules.delta, buckets)) is not None:
            change = "rise" if found > 0 else "fall"
            del buckets[0]
    return Adwin(buckets=tuple(buckets), seen=state.seen + 1), change


def page_hinkley(
    rules: DriftRules, state: PageHinkley, value: float, unit: float
) -> tuple[PageHinkley, Change]:
    """Add a value to the test; ``unit`` is the least deviation to measure by. After an alarm it is empty."""
    above, below = state.above, state.below
    if state.count >= rules.least_values:
        deviation = max(unit, math.sqrt(state.squares / state.count))
        z = (value - state.mean) / deviation
        above = max(0.0, above + z - rules.tolerance)
        below = max(0.0, below - z - rules.tolerance)
        if max(above, below) > rules.threshold:
            return PageHinkley(), "rise" if above > below else "fall"
    # Welford's update.
    count = state.count + 1
    off = value - state.mean
    mean = state.mean + off / count
    squares = state.squares + off * (value - mean)
    return PageHinkley(count=count, mean=mean, squares=squares, above=above, below=below), ""


def _pool(buckets: Iterable[_Bucket]) -> _Bucket:
    count, mean, squares = 0, 0.0, 0.0
    for bucket in buckets:
        off, total = bucket.mean - mean, count + bucket.count
        squares += bucket.squares + off * off * count * bucket.count / total
        mean += off * bucket.count / total
        count = total
    return _Bucket(count, mean, squares)


def _compressed(buckets: list[_Bucket]) -> list[_Bucket]:
    """Merge the two oldest of a size wherever there are too many of it; sizes fall from old to new."""
    size, end = 1, len(buckets)
    while True:
        start = end
        while start > 0 and buckets[start - 1].count == size:
            start -= 1
        if end - start <= _SAME_SIZE:
            return buckets
        buckets[start : start + 2] = [_pool(buckets[start : start + 2])]
        size, end = 2 * size, start + 1


def _split(delta: float, buckets: list[_Bucket]) -> float | None:
    """Return the rise of the mean at the first split that chance does not explain; None without one."""
    whole = _pool(buckets)
    n = whole.count
    if n < 2:
        return None
    variance = whole.squares / n
    evidence = math.log(2 * math.log(n) / delta) if n > 2 else math.log(2 / delta)
    n0, sum0, total = 0, 0.0, whole.mean * n
    for bucket in buckets[:-1]:
        n0 += bucket.count
        sum0 += bucket.mean * bucket.count
        n1 = n - n0
        # Theorem 3.2's bound with the variance term; m is the harmonic mean of both parts' sizes, halved.
        m = n0 * n1 / n
        bound = math.sqrt(2 / m * variance * evidence) + 2 / (3 * m) * evidence
        rise = (total - sum0) / n1 - sum0 / n0
        if abs(rise) > bound:
            return rise
    return None
