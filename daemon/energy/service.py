"""The energy thread: samples the meter and the workloads' CPU time, and publishes a cumulative snapshot.

The meter is read as often as it requires; ``attribution`` splits the joules about once a second. The daemon's
own upkeep (metrics, control, the main thread) is the workload ``service``, other programs are ``others``, and
workloads, idle and others sum to the gross joules.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlite_utils import Database

from dance_ondevice.daemon.energy import ledger
from dance_ondevice.daemon.energy.attribution import IdlePower, Stretch, split
from dance_ondevice.daemon.energy.cputime import (
    board_seconds,
    cgroup_seconds,
    own_cgroup,
    process_seconds,
    thread_seconds,
    threads_named,
)
from dance_ondevice.daemon.energy.hours import Hours
from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.system.waker import Waker
from dance_ondevice.energy.reading import EnergyReading, Meter

if TYPE_CHECKING:
    from dance_ondevice.daemon.store.service import Store

log = logging.getLogger(__name__)

#: Seconds between two writes of the accumulated joules to the store.
PERSIST_SECONDS = 60.0
#: Seconds between two searches for a meter that appears late; a search may run a program.
LOOK_SECONDS = 300.0
#: Shortest stretch that is split: CPU clocks tick every 10 ms, and shares of less are noise.
ATTRIBUTION_SECONDS = 1.0
#: Longest rest of a gauge between two steps that are split as one stretch, in seconds.
_REST_SECONDS = 120.0
#: Workload of each thread of the daemon, by its name up to a dash; all other threads are upkeep.
_WORKLOAD_OF_THREAD = {"ingest": "ingest", "store": "ingest"}
UPKEEP = "service"
#: What a child process may work for.
ChildWork = Literal["training", "labelling", "inference"]


@dataclass(frozen=True, kw_only=True)
class EnergySnapshot:
    """Cumulative energy since the service started; workloads + idle + others = gross.

    Attributes:
        reading: Joules by domain.
        gross_joules: Sum over the domains, idle included.
        workloads: Joules above idle by workload, the daemon's own upkeep (``service``) included.
        idle_joules: Joules that the board would have used at rest.
        others_joules: Joules above idle of other programs; 0 where the meter measures only the daemon.
        idle_watts: Power at rest, as configured or learnt.
        meter: Sources and domains of the meter in use, such as ``rapl:package-0``.
    """

    reading: EnergyReading
    meter: str = ""
    gross_joules: float = 0.0
    workloads: Mapping[str, float] = field(default_factory=dict)
    idle_joules: float = 0.0
    others_joules: float = 0.0
    idle_watts: float = 0.0

    def since(self, before: EnergySnapshot) -> Usage:
        """The use of energy between another snapshot and this one."""
        return _usage(before.reading, self.reading)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Energy that the board used between two moments: gross joules, and seconds that were not measured."""

    gross_joules: float
    unmeasured_seconds: float


def _usage(before: EnergyReading, after: EnergyReading) -> Usage:
    return Usage(
        gross_joules=max(0.0, after.joules - before.joules),
        unmeasured_seconds=max(0.0, after.unmeasured_seconds - before.unmeasured_seconds),
    )


class CpuAccount:
    """CPU seconds by workload, of this process's threads and of the child (trainer or teacher) while it runs.

    The values never fall: the time of a thread or process that ended stays counted. Where the daemon has a
    cgroup of its own, the cgroup's value is the sum, so that no time is lost: what process times miss counts
    as the child's workload while one runs, else as upkeep.
    """

    def __init__(
        self,
        procfs: Path,
        threads: MutableMapping[str, Callable[[], int | None]],
        *,
        sysfs: Path | None = None,
        inference: bool = True,
    ) -> None:
        """Start counting.

        Args:
            procfs: Root of procfs.
            threads: Kernel ids by the thread's name: ``ingest``, ``store``, ...
            sysfs: Root of sysfs; without it no cgroup is searched for.
            inference: Whether models run in this process. Time that no listed thread used then counts as
                inference, since the threads that torch starts cannot be listed; else it counts as upkeep.
        """
        self._unlisted_work = "inference" if inference else UPKEEP
        self._passing = 0.0
        self._procfs = procfs
        self._pid = os.getpid()
        #: Kernel ids by the thread's name; code that starts a thread adds it.
        self.threads = threads
        self._thread_seconds: dict[str, float] = {}
        self._own = self._rest = 0.0
        #: Workload of each child that runs, by process id, and what was charged for it so far.
        self._children: dict[int, tuple[ChildWork, float]] = {}
        self._child_seconds: dict[ChildWork, float] = {"training": 0.0, "labelling": 0.0, "inference": 0.0}
        self._lock = threading.Lock()
        self._cgroup = own_cgroup(procfs, sysfs, self._pid) if sysfs is not None else None
        # The group may be older than this process, so only the time since its start is counted.
        started = cgroup_seconds(self._cgroup) if self._cgroup is not None else None
        self._group_base = (started or 0.0) - time.process_time()
        self._unlisted = {"training": 0.0, "labelling": 0.0, "inference": 0.0, UPKEEP: 0.0}

    @property
    def training(self) -> bool:
        """Whether a trainer or a teacher runs."""
        return any(work != "inference" for work, _ in self._children.copy().values())

    def list_threads(self, services: Iterable[Service]) -> None:
        """Add the threads of services, and those of libzmq, which carry frames in (and small masks out)."""
        for service in services:
            self.threads[service.name] = lambda s=service: s.native_id  # type: ignore[misc]
            self.threads.update((name, of) for workers in service.workers for name, of in workers.threads())
        for tid in threads_named(self._procfs, self._pid, "ZMQbg"):
            self.threads[f"ingest-zmq{tid}"] = lambda tid=tid: tid  # type: ignore[misc]

    def charge_upkeep(self, seconds: float) -> None:
        """Charge the CPU seconds of a thread that has ended, such as one that answered a scrape."""
        with self._lock:
            self._passing += seconds

    def attach_trainer(self, pid: int, workload: ChildWork = "training") -> None:
        """Charge a process's CPU seconds to training, or to what else it works for, from now on."""
        with self._lock:
            self._children[pid] = (workload, 0.0)

    def detach_trainer(self, pid: int, total_seconds: float | None) -> None:
        """End the charging of a process; ``total_seconds`` is the kernel's total of it once it has ended."""
        with self._lock:
            if total_seconds is not None:
                self._charge_child(pid, total_seconds)
            self._children.pop(pid, None)

    def seconds(self) -> dict[str, float]:
        """Cumulative CPU seconds by workload, the daemon's own upkeep included."""
        with self._lock:
            # A copy: services are still being added while the first stretch is read.
            for name, native_id in list(self.threads.items()):
                tid = native_id()
                used = thread_seconds(self._procfs, self._pid, tid) if tid is not None else None
                if used is not None:
                    self._thread_seconds[name] = max(used, self._thread_seconds.get(name, 0.0))
            self._count_process()
            found: dict[str, float] = {
                **{name: used + self._unlisted[name] for name, used in self._child_seconds.items()},
                "ingest": 0.0,
                UPKEEP: self._unlisted[UPKEEP] + self._passing,
            }
            for name, seconds in self._thread_seconds.items():
                found[_WORKLOAD_OF_THREAD.get(name.partition("-")[0], UPKEEP)] += seconds
            listed = sum(self._thread_seconds.values()) + self._passing
            self._rest = max(self._rest, self._own - listed)
            found[self._unlisted_work] += self._rest
            return found

    def total(self) -> float:
        """CPU seconds of all that the daemon runs: the sum of ``seconds``, without a look at each thread."""
        with self._lock:
            self._count_process()
            listed = sum(self._thread_seconds.values()) + self._passing
            return (
                sum(self._child_seconds.values())
                + sum(self._unlisted.values())
                + max(self._own, listed + self._rest)
            )

    def board(self) -> float | None:
        """Busy CPU seconds of all programs on the board since boot; None when the kernel reports none."""
        return board_seconds(self._procfs)

    def _count_process(self) -> None:
        """Read what this process, its child and its cgroup have used."""
        for pid in list(self._children):
            used = process_seconds(self._procfs, pid)
            if used is not None:
                self._charge_child(pid, used)
        self._own = max(self._own, time.process_time())
        self._count_unlisted()

    def _count_unlisted(self) -> None:
        """Charge the CPU seconds of the cgroup that no known process accounts for."""
        group = cgroup_seconds(self._cgroup) if self._cgroup is not None else None
        if group is None:
            return
        known = self._own + sum(self._child_seconds.values()) + sum(self._unlisted.values())
        missed = group - self._group_base - known
        if missed > 0:
            works = [work for work, _ in self._children.values()]
            # A round is by far the largest child.
            work = next((each for each in works if each != "inference"), works[0] if works else UPKEEP)
            self._unlisted[work] += missed

    def _charge_child(self, pid: int, seconds: float) -> None:
        if pid in self._children:
            work, charged = self._children[pid]
            more = max(0.0, seconds - charged)
            self._children[pid] = (work, charged + more)
            self._child_seconds[work] += more


class EnergyService(Service):
    """The energy thread, which owns the meter; other threads read ``snapshot``.

    Attributes:
        look_again: Returns a sentence about a meter that has appeared since the start; "" without one.
        later: That sentence, of the last search.
    """

    def __init__(
        self,
        meter: Meter,
        cpu: CpuAccount,
        *,
        idle_watts: float,
        store: Store | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        cores: int = os.cpu_count() or 1,
    ) -> None:
        """Read the meter once; ``idle_watts`` is the configured value."""
        super().__init__("energy")
        self.meter = meter
        self.cpu = cpu
        # A modelled meter measures nothing but this daemon, and has its idle power from the configuration.
        self._whole_board = meter.method != "modelled"
        self._configured_idle = idle_watts
        self._idle = IdlePower(idle_watts)
        self._seen: frozenset[str] = frozenset()
        self._cores = cores
        self.look_again: Callable[[], str] = lambda: ""
        self.later = ""
        self._looked_at = monotonic()
        self._store = store
        self._monotonic = monotonic
        self._now = now
        self._lock = threading.Lock()
        self._waker: Waker | None = None
        self._totals: dict[str, float] = {}
        self.hours = Hours()
        #: Joules that are not written yet, by workload, source and method.
        self._due: dict[tuple[str, str, str], float] = {}
        self._persisted_at = self._last_at = monotonic()
        self._last_cpu, self._last_board = cpu.seconds(), cpu.board()
        self._last = meter.read(self._last_at)
        self._first_gross = self._last.joules
        self._snapshot = EnergySnapshot(reading=self._last, idle_watts=idle_watts)

    def snapshot(self) -> EnergySnapshot:
        """The latest published snapshot, from memory."""
        return self._snapshot

    def sample(self) -> EnergySnapshot:
        """Read the meter now, split and publish; used at the exact start and end of a round."""
        with self._lock:
            now = self._monotonic()
            return self._publish(now, self.meter.read(now))

    def used_since(self, before: EnergySnapshot) -> Usage:
        """The use of energy since a snapshot, read from the meter now; publishes nothing."""
        with self._lock:
            reading = self.meter.read(self._monotonic())
        return _usage(before.reading, reading)

    def tick(self) -> None:
        """Read the meter; split and publish once enough time has passed that shares are not noise."""
        self._split_after(ATTRIBUTION_SECONDS)

    def _split_after(self, least_seconds: float) -> None:
        with self._lock:
            now = self._monotonic()
            reading, last = self.meter.read(now), self._last
            # The joules of a gauge's step are those of all the time since the one before.
            rests = reading == last and reading.watts == last.watts and reading.faults == last.faults
            if now - self._last_at >= (_REST_SECONDS if rests else least_seconds):
                self._publish(now, reading)

    def setup(self) -> None:
        """Make what ``wake`` uses: a wait for it ends by no clock that may be set."""
        self._waker = Waker()

    def run(self) -> None:
        """Read the meter until stopped; persist once a minute."""
        assert self._waker is not None
        while not self.stopping.is_set():
            # When another meter takes over, it is read as often as that one requires.
            self._waker.wait(self.meter.period_s)
            self.tick()
            self.beat()
            if self._monotonic() - self._persisted_at >= PERSIST_SECONDS:
                self.persist()
            self.search()

    def search(self) -> None:
        """Search for a meter that has appeared since the start, if it is time."""
        if self._monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = self._monotonic()
        found = self.look_again()
        if found and not self.later:
            log.warning("energy meter found late text=%r", found)
        self.later = found

    def wake(self) -> None:
        """End the wait for the next reading."""
        if self._waker is not None:
            self._waker.wake()

    def teardown(self) -> None:
        """Release what ``wake`` uses."""
        if self._waker is not None:
            self._waker.close()

    def persist(self) -> None:
        """Add the joules used since the last call to the store's table of days; any thread may call it."""
        self._persisted_at = self._monotonic()
        if self._store is None:
            return
        self._split_after(0.0)
        with self._lock:
            steps, self._due = self._due, {}
        day = datetime.fromtimestamp(self._now(), timezone.utc).strftime("%Y-%m-%d")

        def write(db: Database) -> None:
            for (name, source, method), joules in steps.items():
                if joules > 0:
                    ledger.add_energy(db, day, name, source, method, joules)

        def check(done: Future[None]) -> None:
            if (error := done.exception()) is not None:
                log.warning("joules not written, retried with the next write error=%s", error)
                with self._lock:
                    for key, joules in steps.items():
                        self._due[key] = self._due.get(key, 0.0) + joules

        self._store.submit(write).add_done_callback(check)

    def _publish(self, now: float, reading: EnergyReading) -> EnergySnapshot:
        cpu, board = self.cpu.seconds(), self.cpu.board()
        stretch = Stretch(
            seconds=max(0.0, now - self._last_at),
            unmeasured_seconds=max(0.0, reading.unmeasured_seconds - self._last.unmeasured_seconds),
            joules=max(0.0, reading.joules - self._last.joules),
            cpu={name: max(0.0, used - self._last_cpu.get(name, 0.0)) for name, used in cpu.items()},
            board=None if board is None or self._last_board is None else max(0.0, board - self._last_board),
        )
        seen = _seen(reading)
        if not seen <= self._seen:  # less is the same meter, with a sensor that gives no figure now
            # The idle power that one meter measured does not hold for another.
            self._seen, self._idle = seen, IdlePower(self._configured_idle)
        if self._whole_board:
            self._idle.observe(stretch, quiet=not self.cpu.training)
        shares = split(stretch, idle_watts=self._idle.watts, cores=self._cores, whole_board=self._whole_board)
        for name, joules in (*shares.workloads.items(), ("idle", shares.idle), ("others", shares.others)):
            self._totals[name] = self._totals.get(name, 0.0) + joules
            if name != "others":
                self.hours.add(self._now(), name, joules)
            key = name, self.meter.source, self.meter.method
            self._due[key] = self._due.get(key, 0.0) + joules
        self._last_at, self._last_cpu, self._last_board, self._last = now, cpu, board, reading
        self._snapshot = EnergySnapshot(
            reading=reading,
            gross_joules=reading.joules - self._first_gross,
            workloads={name: self._totals[name] for name in self._totals if name not in ("idle", "others")},
            idle_joules=self._totals["idle"],
            others_joules=self._totals["others"],
            idle_watts=self._idle.watts,
            meter=" ".join(sorted(self._seen)),
        )
        return self._snapshot


def _seen(reading: EnergyReading) -> frozenset[str]:
    """The sources and domains that have power in a reading, none before the second one."""
    return frozenset(f"{d.source}:{d.domain}" for d in reading.domains if d.watts is not None)
