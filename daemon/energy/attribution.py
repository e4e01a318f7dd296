"""Whose joules: splits the energy of a stretch of time into workloads, idle and other programs.

Above-idle energy follows busy CPU time, the first-order model of a board without accelerators at work. What
is split always sums to the whole: workloads + idle + others = total.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

#: Seconds over which one figure of quiet power is averaged; in shorter ones noise would look like idle power.
QUIET_SECONDS = 10.0
#: Quiet figures that are remembered: two hours of time without a round.
_QUIET_FIGURES = 720
#: Idle power is the quiet power that so large a share of the figures stays below.
_IDLE_QUANTILE = 0.1


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """What was measured between two moments.

    Attributes:
        seconds: that passed.
        unmeasured_seconds: of them, those that the meter did not cover.
        joules: of everything that the meter sees.
        cpu: busy CPU seconds of the daemon's workloads, by workload.
        board: busy CPU seconds of all programs on the board; None when the kernel does not tell.
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

    A workload gets the above-idle joules times its share of the busy CPU seconds; the rest is others'.

    Args:
        stretch: what was measured.
        idle_watts: power of the board at rest.
        cores: of the board.
        whole_board: the meter sees other programs, too. Else its joules above idle are the daemon's alone,
            and the share is of the daemon's own CPU seconds.
    """
    covered = max(0.0, stretch.seconds - stretch.unmeasured_seconds)
    idle = min(stretch.joules, idle_watts * covered)
    above = stretch.joules - idle
    own = sum(stretch.cpu.values())
    busy = own
    if whole_board:
        # Where the board's busy time is unknown, all cores count as busy: a share too small charges others,
        # one too large would charge us for what others did. Clocks of different grain may let ours run ahead.
        busy = max(own, stretch.seconds * cores if stretch.board is None else stretch.board)
    if busy <= 0:
        return Shares(workloads=dict.fromkeys(stretch.cpu, 0.0), idle=idle, others=above)
    workloads = {name: above * seconds / busy for name, seconds in stretch.cpu.items()}
    return Shares(workloads=workloads, idle=idle, others=max(0.0, above - sum(workloads.values())))


class IdlePower:
    """Learns the board's power at rest: a low quantile of what it draws while no round runs.

    A load that never pauses cannot be told from idle power: inference at a steady rate without a gap would be
    learnt as idle. A configured figure is therefore an upper bound on what is learnt.
    """

    def __init__(self, configured_watts: float = 0.0) -> None:
        """``configured_watts`` serves until there is something learnt, and as an upper bound; 0: unknown."""
        self._configured = configured_watts
        self._figures: deque[float] = deque(maxlen=_QUIET_FIGURES)
        self._seconds = self._joules = 0.0
        self.watts = configured_watts

    def observe(self, stretch: Stretch, *, quiet: bool) -> None:
        """Take a stretch into account; one with a round, or that is not wholly measured, ends the figure."""
        if not quiet or stretch.unmeasured_seconds > 0:
            self._seconds = self._joules = 0.0
            return
        self._seconds += stretch.seconds
        self._joules += stretch.joules
        if self._seconds < QUIET_SECONDS:
            return
        self._figures.append(self._joules / self._seconds)
        self._seconds = self._joules = 0.0
        learnt = sorted(self._figures)[int(_IDLE_QUANTILE * len(self._figures))]
        self.watts = min(learnt, self._configured) if self._configured > 0 else learnt
