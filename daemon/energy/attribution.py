"""Attribution of energy: splits the joules of a stretch of time into workloads, idle and other programs.

Above-idle energy follows busy CPU time, the first-order model of a board whose accelerators do not work. The
parts always sum to the whole: workloads + idle + others = total.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

#: Seconds over which one value of quiet power is averaged; over less, noise would look like idle power.
QUIET_SECONDS = 10.0
#: Number of values that are kept: two hours of time without a round.
_QUIET_FIGURES = 720
#: Idle power is the quantile of the quiet power at this share.
_IDLE_QUANTILE = 0.1


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A measurement between two moments.

    Attributes:
        seconds: Seconds that passed.
        unmeasured_seconds: Seconds of them that the meter did not cover.
        joules: Joules of everything that the meter measures.
        cpu: Busy CPU seconds of the daemon, by workload.
        board: Busy CPU seconds of all programs on the board; None when the kernel does not report them.
    """

    seconds: float
    unmeasured_seconds: float
    joules: float
    cpu: Mapping[str, float]
    board: float | None


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Joules of a stretch: by workload, of the board at rest, and of other programs."""

    workloads: Mapping[str, float]
    idle: float
    others: float


def split(stretch: Stretch, *, idle_watts: float, cores: int, whole_board: bool) -> Shares:
    """Split a stretch's joules.

    A workload gets the above-idle joules times its share of the busy CPU seconds; other programs get the
    rest.

    Args:
        stretch: The measurement.
        idle_watts: Power of the board at rest.
        cores: Number of the board's cores.
        whole_board: Whether the meter measures other programs too. If not, all joules above idle are the
            daemon's, and the shares are of its own CPU seconds.
    """
    covered = max(0.0, stretch.seconds - stretch.unmeasured_seconds)
    idle = min(stretch.joules, idle_watts * covered)
    above = stretch.joules - idle
    own = sum(stretch.cpu.values())
    busy = own
    if whole_board:
        # Where the board's busy time is unknown, all cores count as busy: too small a share charges others,
        # too large a one would charge the daemon for them. The two clocks have different resolutions.
        busy = max(own, stretch.seconds * cores if stretch.board is None else stretch.board)
    if busy <= 0:
        return Shares(workloads=dict.fromkeys(stretch.cpu, 0.0), idle=idle, others=above)
    workloads = {name: above * seconds / busy for name, seconds in stretch.cpu.items()}
    return Shares(workloads=workloads, idle=idle, others=max(0.0, above - sum(workloads.values())))


class IdlePower:
    """Learns the board's power at rest, as a low quantile of its power while no round runs.

    A constant load cannot be distinguished from idle power: inference at a steady rate without a gap would be
    learnt as idle. A configured value is therefore an upper bound on the learnt one.
    """

    def __init__(self, configured_watts: float = 0.0) -> None:
        """``configured_watts`` is used until a value is learnt, and as an upper bound; 0 means unknown."""
        self._configured = configured_watts
        self._figures: deque[float] = deque(maxlen=_QUIET_FIGURES)
        self._seconds = self._joules = 0.0
        self.watts = configured_watts

    def observe(self, stretch: Stretch, *, quiet: bool) -> None:
        """Add a stretch; one with a round, or one not fully measured, discards the value being averaged."""
        if not quiet or stretch.unmeasured_seconds > 0:
            self._seconds = self._joules = 0.0
            return
        self._seconds += stretch.seconds
        self._joules += stretch.joules
        # A board draws power all the time: without a joule the gauge has taken no step yet.
        if self._seconds < QUIET_SECONDS or self._joules <= 0:
            return
        self._figures.append(self._joules / self._seconds)
        self._seconds = self._joules = 0.0
        learnt = sorted(self._figures)[int(_IDLE_QUANTILE * len(self._figures))]
        self.watts = min(learnt, self._configured) if self._configured > 0 else learnt
