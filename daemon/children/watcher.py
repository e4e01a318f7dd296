"""Runs one child process (trainer, teacher, probation or estimation) to its end and enforces its limits.

There is one watcher for all children, so that each has a deadline, a limit of memory and a limit of joules,
and so that the thread that waits for it sends its heartbeat whatever a child does.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.process import Exit, Tick, TrainerProcess
from dance_ondevice.daemon.system.cgroups import CGROUPS, memory_left

__all__ = ["ChildWatcher", "Ended", "Limit", "Limits", "available_memory", "memory_limit", "resident_bytes"]

log = logging.getLogger(__name__)

#: Share of the memory available at its start that a child may use.
MEMORY_SHARE = 0.75

Workload: TypeAlias = Literal["training", "labelling", "inference"]
Limit: TypeAlias = Literal["", "stopping", "deadline", "memory", "energy"]


#: Seconds of waiting for the processor that are worth a word.
_STARVED_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a child process, beside its memory: see ``memory_limit``.

    Attributes:
        deadline: The monotonic second at which the child must end.
        must_stop: Returns why the energy budget ends the child now, or None; called about twice a second.
    """

    deadline: float
    must_stop: Callable[[], str | None]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a child ended.

    Attributes:
        exit: Its exit status and its CPU seconds.
        limit: The first limit that it reached and was asked to leave for; ``stopping`` where the daemon
            stops; empty where it left by itself.
        reason: The limit in words; empty where it left by itself.
        peak_bytes: The most resident memory that was seen.
        killed_for_memory: Whether the kernel killed it because memory was short.
    """

    exit: Exit
    limit: Limit
    reason: str
    peak_bytes: int
    killed_for_memory: bool


class ChildAccount(Protocol):
    """The account that a child's CPU seconds are charged to."""

    def attach_trainer(self, pid: int, workload: Workload = ...) -> None:
        """Charge a process's CPU seconds to a workload from now on."""

    def detach_trainer(self, pid: int, total_seconds: float | None) -> None:
        """End the charging of a process that ended; ``total_seconds`` is the kernel's total of it."""


@dataclass(frozen=True, kw_only=True)
class ChildWatcher:
    """Starts children one at a time and follows each to its end, on the thread that calls ``run``.

    Attributes:
        cpu: The account that a child's CPU seconds are charged to.
        procfs: The root of procfs.
        stopping: Set when the daemon stops: the child is then asked to leave with the shorter grace.
        monotonic: The clock of the deadline, in seconds.
        beat: Called with each event and at least twice a second, so that the thread counts as alive.
    """

    cpu: ChildAccount
    procfs: Path
    stopping: threading.Event
    monotonic: Callable[[], float]
    beat: Callable[[], None]

    def run(
        self,
        process: TrainerProcess,
        limits: Limits,
        take: Callable[[jobs.Event], None],
        *,
        workload: Workload = "training",
        within: Callable[[], None] = lambda: None,
    ) -> Ended:
        """Start a child, follow it to its end and return how it ended.

        Args:
            process: The child, not started yet.
            limits: What it may not exceed.
            take: Receives each of its events.
            workload: What its CPU seconds are charged to.
            within: Called after each event and tick at which no limit is reached.

        Raises:
            OSError: The process cannot be started.
            Exception: Whatever ``take`` or ``within`` raises; the child is killed first.
        """
        resident_limit = memory_limit(self.procfs)
        process.start()
        self.cpu.attach_trainer(process.pid, workload)
        ended = None
        try:
            ended = self._follow(process, limits, resident_limit, take, within)
        finally:
            self.cpu.detach_trainer(process.pid, (ended.exit if ended else process.end()).cpu_seconds)
        return ended

    def _follow(
        self,
        process: TrainerProcess,
        limits: Limits,
        resident_limit: int,
        take: Callable[[jobs.Event], None],
        within: Callable[[], None],
    ) -> Ended:
        oom_kills = _oom_kills(self.procfs)
        peak = 0
        limit: Limit = ""
        reason = ""
        for event in process.events():
            self.beat()
            if isinstance(event, Exit):
                killed = event.status == -signal.SIGKILL and _oom_kills(self.procfs) > oom_kills
                return Ended(
                    exit=event, limit=limit, reason=reason, peak_bytes=peak, killed_for_memory=killed
                )
            if not isinstance(event, Tick):
                take(event)
            resident = resident_bytes(self.procfs, process.pid) or 0
            peak = max(peak, resident)
            if self.stopping.is_set():
                if not limit:  # else it was asked to leave before, and that is why it ends
                    limit, reason = "stopping", "the daemon is stopping"
                process.ask_to_leave(daemon_stops=True)
            elif not limit:
                limit, reason = self._reached(limits, resident, resident_limit, process.pid)
                if limit:
                    log.warning("child stopping pid=%d limit=%s reason=%s", process.pid, limit, reason)
                    process.ask_to_leave()
                else:
                    within()
        raise AssertionError("the events of a child end with its exit")

    def _reached(self, limits: Limits, resident: int, resident_limit: int, pid: int) -> tuple[Limit, str]:
        if self.monotonic() >= limits.deadline:
            waited = waited_seconds(self.procfs, pid)
            starved = (
                f": other programs kept it waiting for the processor for {waited:.0f} s (training.priority = "
                '"normal" gives it its share)'
                if waited >= _STARVED_SECONDS
                else ""
            )
            return "deadline", f"it took longer than training.max_round_duration{starved}"
        if resident > resident_limit:
            return "memory", (
                f"it used {resident / 2**20:.0f} MiB of memory, "
                f"more than the {resident_limit / 2**20:.0f} MiB that this board can spare"
            )
        energy = limits.must_stop()
        return ("energy", energy) if energy else ("", "")


def resident_bytes(procfs: Path, pid: int) -> int | None:
    """Resident memory of a process in bytes; None when the process is gone."""
    try:
        pages = (procfs / str(pid) / "statm").read_text().split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def waited_seconds(procfs: Path, pid: int) -> float:
    """Seconds for which a process was ready to run and did not get the processor; 0 where nobody says.

    Of its first thread, which computes with the others: the second number of
    https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat.
    """
    try:
        return int((procfs / str(pid) / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def memory_limit(procfs: Path) -> int:
    """Bytes that a child which starts now may use."""
    return int(MEMORY_SHARE * available_memory(procfs))


def available_memory(procfs: Path, cgroups: Path = CGROUPS) -> int:
    """Bytes that a new process may use without swapping; a large number if unknown.

    The machine's ``MemAvailable``, or what a container's or unit's limit leaves, if that is less.
    """
    return min([_machines_memory(procfs), *memory_left(procfs, cgroups)])


def _machines_memory(procfs: Path) -> int:
    try:
        for line in (procfs / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 1 << 40


def _oom_kills(procfs: Path) -> int:
    """How often the kernel has killed a process because memory ran out; 0 if /proc/vmstat does not say."""
    try:
        for line in (procfs / "vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return 0
