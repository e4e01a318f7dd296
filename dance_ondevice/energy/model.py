"""Modelled meter, the fallback without a hardware meter: joules from CPU seconds and two powers."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from dance_ondevice.energy.reading import DomainEnergy, EnergyReading, Method

log = logging.getLogger(__name__)


class ModelledMeter:
    """Models energy as linear in CPU use, the usual first-order model of a board's power.

    ``joules = idle_watts * elapsed + (max_watts - idle_watts) / cores * cpu_seconds``; after Fan, Weber and
    Barroso, "Power provisioning for a warehouse-sized computer" (ISCA 2007), section 4.

    The result never falls. When the CPU counter cannot be read (``OSError``, or a value that is not finite)
    or has gone backwards (it was reset), the interval is added to ``unmeasured_seconds`` and only its idle
    part to the joules; the CPU seconds of a gap that a failed read left are added at the next good one.

    Not thread-safe: one thread reads it.
    """

    source = "model"
    method: Method = "modelled"
    period_s = 1.0

    def __init__(
        self,
        cpu_seconds: Callable[[], float],
        idle_watts: float,
        max_watts: float,
        cores: int,
    ) -> None:
        """Start counting at the first ``read``.

        Args:
            cpu_seconds: Cumulative CPU time of what is metered, in seconds over all cores.
            idle_watts: Power charged for time that passes, whatever is computed.
            max_watts: Power with all cores busy.
            cores: Number of cores that share ``max_watts``.

        Raises:
            ValueError: A figure is impossible.
        """
        if not (math.isfinite(idle_watts) and idle_watts >= 0):
            raise ValueError(f"idle_watts is {idle_watts}; it must be a number of watts, 0 or more")
        if not (math.isfinite(max_watts) and max_watts >= idle_watts):
            raise ValueError(f"max_watts is {max_watts}; it must be at least idle_watts ({idle_watts})")
        if cores < 1:
            raise ValueError(f"cores is {cores}; it must be 1 or more")
        self.about = (
            f"modelled from CPU seconds: {idle_watts:g} W idle, {max_watts:g} W with {cores} busy cores"
        )
        self._cpu_seconds = cpu_seconds
        self._idle_watts = idle_watts
        self._watts_per_busy_core = (max_watts - idle_watts) / cores
        self._last_now: float | None = None
        self._last_cpu: float | None = None
        self._joules = 0.0
        self._watts: float | None = None
        self._unmeasured = 0.0

    def read(self, now: float) -> EnergyReading:
        """The modelled energy since the first read.

        Args:
            now: Monotonic time in seconds; an earlier time than the last one counts as no time passed.
        """
        elapsed = 0.0 if self._last_now is None else max(0.0, now - self._last_now)
        self._last_now = now if self._last_now is None else max(now, self._last_now)
        before = self._joules
        self._joules += self._idle_watts * elapsed
        cpu = self._read_cpu()
        if cpu is None:
            self._unmeasured += elapsed
        elif self._last_cpu is None:
            # The counter could not be read when the meter started: its present value may include older time.
            self._last_cpu = cpu
            self._unmeasured += elapsed
        elif cpu < self._last_cpu:
            log.warning("cpu counter fell source=%s before=%.3f after=%.3f", self.source, self._last_cpu, cpu)
            self._last_cpu = cpu
            self._unmeasured += elapsed
        else:
            self._joules += self._watts_per_busy_core * (cpu - self._last_cpu)
            self._last_cpu = cpu
        if elapsed > 0:
            self._watts = (self._joules - before) / elapsed
        domain = DomainEnergy("board", self._joules, self.source, self.method, self._watts)
        return EnergyReading((domain,), self._unmeasured)

    def _read_cpu(self) -> float | None:
        try:
            cpu = self._cpu_seconds()
        except OSError as error:
            log.warning("cpu counter unreadable source=%s error=%s", self.source, error)
            return None
        return cpu if math.isfinite(cpu) else None
