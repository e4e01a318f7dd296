"""Measures a board's power idle and fully busy: makes loads, reads a meter, and fits a line."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dance_ondevice.energy.reading import Meter

#: Loads that differ by a smaller share of the processor do not determine the line's slope.
LEAST_SPREAD = 0.3
#: A meter that misses a larger share of a load's time does not determine its power.
MOST_UNMEASURED = 0.1
#: Seconds that a load may take to start; if its parent dies, the load ends this much later.
_START_SECONDS = 60.0

# Keeps one core busy with products of float32 matrices, the main work of training. It ends by itself, even if
# the process that started it is gone.
_LOAD = """
import sys, time
end = time.monotonic() + float(sys.argv[1])
import numpy
a = numpy.full((256, 256), 1 / 256, numpy.float32)
print("ready", flush=True)
while time.monotonic() < end:
    a @ a
"""
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "BLIS")}


class CalibrationError(ValueError):
    """The measurements do not determine a line; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class LoadPoint:
    """One measurement of the board under a load.

    Attributes:
        busy_cores: Number of cores that were kept busy on purpose.
        utilisation: Share of all cores' time that was busy, from any program, 0 to 1.
        watts: Mean power.
    """

    busy_cores: int
    utilisation: float
    watts: float


@dataclass(frozen=True, kw_only=True)
class PowerLine:
    """Power as a linear function of utilisation, the model of the modelled meter.

    Attributes:
        idle_watts: Power with nothing to do.
        max_watts: Power with every core busy.
        rms_watts: Root mean square of the points' distance from the line; 0 with two points.
    """

    idle_watts: float
    max_watts: float
    rms_watts: float

    def watts(self, utilisation: float) -> float:
        """Power at a utilisation of 0 to 1."""
        return self.idle_watts + (self.max_watts - self.idle_watts) * utilisation


@dataclass(frozen=True, kw_only=True)
class Board:
    """The machine that is measured; each part can be replaced in tests.

    Attributes:
        procfs: Root of procfs.
        cores: Number of cores.
        load: Keeps a number of cores busy for at most a number of seconds, until the context ends.
    """

    procfs: Path
    cores: int
    load: Callable[[int, float], AbstractContextManager[object]]
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic


#: Watts by which a line through exact readings may miss them because of floating point.
_ROUNDING = 1e-9


def this_board(procfs: Path) -> Board:
    """The machine that this runs on."""
    return Board(procfs=procfs, cores=os.cpu_count() or 1, load=busy_cores)


def load_levels(cores: int, count: int) -> list[int]:
    """About ``count`` numbers of busy cores, evenly from none to all of them."""
    return sorted({round(step * cores / (count - 1)) for step in range(count)})


def fit(points: Sequence[LoadPoint]) -> PowerLine:
    """The least-squares line of watts over utilisation.

    Raises:
        CalibrationError: The points are too close together, or the line is impossible for a board.
    """
    loads = [point.utilisation for point in points]
    spread = max(loads, default=0.0) - min(loads, default=0.0)
    if spread < LEAST_SPREAD:
        raise CalibrationError(
            f"the loads differ by only {spread:.0%} of the processor and {LEAST_SPREAD:.0%} are needed: "
            "end what else keeps this board busy, and try again"
        )
    mean_load = math.fsum(loads) / len(points)
    mean_watts = math.fsum(point.watts for point in points) / len(points)
    slope = math.fsum((p.utilisation - mean_load) * (p.watts - mean_watts) for p in points) / math.fsum(
        (load - mean_load) ** 2 for load in loads
    )
    idle = mean_watts - slope * mean_load
    if slope < -_ROUNDING:
        raise CalibrationError(
            f"the power falls from {idle:.2f} W idle to {idle + slope:.2f} W busy: were the readings "
            "given in the order of the loads, idle first?"
        )
    if idle < -_ROUNDING:
        raise CalibrationError(
            f"the line through the readings leaves {idle:.2f} W for the idle board: "
            "repeat with a longer --seconds"
        )
    idle, slope = max(0.0, idle), max(0.0, slope)
    missed = math.fsum((idle + slope * point.utilisation - point.watts) ** 2 for point in points)
    return PowerLine(idle_watts=idle, max_watts=idle + slope, rms_watts=math.sqrt(missed / len(points)))


def run_load(
    board: Board, busy: int, seconds: float, meter: Meter | None = None
) -> tuple[float, float | None]:
    """Keep some cores busy for a time and measure.

    Args:
        board: The machine.
        busy: Number of cores to keep busy; 0 makes no load.
        seconds: Duration of the load.
        meter: The meter to read during the load, as often as it requires.

    Returns:
        The board's utilisation, 0 to 1, and the meter's mean watts (None without one).

    Raises:
        CalibrationError: The load did not start, or the processor or the meter could not be read.
    """
    with board.load(busy, seconds) if busy else contextlib.nullcontext():
        started = now = board.monotonic()
        first = meter.read(started) if meter else None
        busy_before, all_before = _cpu_times(board.procfs)
        last = first
        while now < started + seconds:
            period = meter.period_s if meter else seconds
            board.sleep(min(period, started + seconds - now))
            now = board.monotonic()
            last = meter.read(now) if meter else None
        busy_after, all_after = _cpu_times(board.procfs)
    if all_after <= all_before:
        raise CalibrationError(f"{board.procfs / 'stat'} does not count: a longer --seconds may help")
    utilisation = min(1.0, max(0.0, (busy_after - busy_before) / (all_after - all_before)))
    if first is None or last is None:
        return utilisation, None
    missed = last.unmeasured_seconds - first.unmeasured_seconds
    if missed > MOST_UNMEASURED * seconds:
        raise CalibrationError(
            f"the meter could not be read for {missed:.1f} of {seconds:g} s; "
            "`dance-ondevice doctor` says more"
        )
    return utilisation, (last.joules - first.joules) / (now - started)


@contextmanager
def busy_cores(count: int, seconds: float) -> Iterator[list[int]]:
    """Keep cores busy with one process each, until the context ends; yields the processes' ids.

    Args:
        count: Number of cores.
        seconds: The processes end by themselves this long after they have had time to start.

    Raises:
        CalibrationError: A process did not start.
    """
    processes: list[subprocess.Popen[str]] = []
    try:
        for _ in range(count):
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", _LOAD, str(seconds + _START_SECONDS)],
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, **_ONE_THREAD},
                )
            )
        for process in processes:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise CalibrationError("a process that keeps a core busy did not start; see its error above")
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()


def _cpu_times(procfs: Path) -> tuple[int, int]:
    """Busy and all ticks of all cores since boot, from the first line of ``stat`` (proc(5))."""
    path = procfs / "stat"
    try:
        name, *fields = path.read_text().splitlines()[0].split()
        # user nice system idle iowait irq softirq steal; guest time is included in user.
        ticks = [int(field) for field in fields[:8]]
    except (OSError, IndexError, ValueError) as error:
        raise CalibrationError(f"{path} does not show how busy the cores are: {error}") from error
    if name != "cpu" or len(ticks) < 4:
        raise CalibrationError(f"{path} does not show how busy the cores are: it starts with {name!r}")
    return sum(ticks) - sum(ticks[3:5]), sum(ticks)
