"""Samples the meter and the workloads' CPU time, and publishes one immutable cumulative snapshot.

Workload joules are above idle: the meter's energy less the idle power, split by each workload's share of the
CPU seconds that the daemon and its trainer spent. What belongs to none of the four (metrics, control, the
main thread) is kept as ``other``, so that the parts sum to the whole.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from sqlite_utils import Database

from dance_ondevice.daemon import ledger
from dance_ondevice.daemon.cputime import process_seconds, thread_seconds
from dance_ondevice.daemon.service import Service
from dance_ondevice.energy.reading import EnergyReading, Meter

if TYPE_CHECKING:
    from dance_ondevice.daemon.store import Store

log = logging.getLogger(__name__)

#: Seconds between two writes of the accumulated joules to the store.
PERSIST_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class EnergySnapshot:
    """Cumulative energy since the service started.

    Attributes:
        reading: joules by domain.
        gross_joules: sum over the domains, idle included.
        workloads: joules above idle by workload, ``other`` included.
        idle_joules: gross less the workloads.
    """

    reading: EnergyReading
    gross_joules: float = 0.0
    workloads: Mapping[str, float] = field(default_factory=dict)

    @property
    def idle_joules(self) -> float:
        """What the board would have used anyway."""
        return max(0.0, self.gross_joules - sum(self.workloads.values()))


class CpuAccount:
    """CPU seconds by workload, of this process's threads and of the trainer while it runs.

    Cumulative and never falling: what a thread or process had used when it ended stays counted.
    """

    def __init__(self, procfs: Path, threads: Mapping[str, Callable[[], int | None]]) -> None:
        """``threads`` maps a thread's name to its kernel id; names are ``ingest``, ``store``, ...

        The inference workload is what no listed thread used, since the thread pool that torch starts for it
        cannot be listed.
        """
        self._procfs = procfs
        self._pid = os.getpid()
        self._threads = threads
        self._thread_seconds: dict[str, float] = {}
        self._own = 0.0
        self._trainer_pid: int | None = None
        self._trainer_seconds = 0.0
        self._trainer_base = 0.0
        self._lock = threading.Lock()

    def attach_trainer(self, pid: int) -> None:
        """Charge a process's CPU seconds to training from now on."""
        with self._lock:
            self._trainer_base, self._trainer_pid = self._trainer_seconds, pid

    def detach_trainer(self, total_seconds: float | None) -> None:
        """The trainer has ended; ``total_seconds`` is what the kernel says it used in all."""
        with self._lock:
            if total_seconds is not None:
                self._trainer_seconds = max(self._trainer_seconds, self._trainer_base + total_seconds)
            self._trainer_pid = None

    def seconds(self) -> dict[str, float]:
        """Cumulative CPU seconds by workload (``other`` included)."""
        with self._lock:
            if self._trainer_pid is not None:
                used = process_seconds(self._procfs, self._trainer_pid)
                if used is not None:
                    self._trainer_seconds = max(self._trainer_seconds, self._trainer_base + used)
            training = self._trainer_seconds
        for name, native_id in self._threads.items():
            tid = native_id()
            used = thread_seconds(self._procfs, self._pid, tid) if tid is not None else None
            if used is not None:
                self._thread_seconds[name] = max(used, self._thread_seconds.get(name, 0.0))
        self._own = max(self._own, time.process_time())
        ingest = self._thread_seconds.get("ingest", 0.0) + self._thread_seconds.get("store", 0.0)
        other = sum(self._thread_seconds.values()) - ingest
        return {
            "training": training,
            "ingest": ingest,
            "inference": max(0.0, self._own - ingest - other),
            "other": other,
        }

    def total(self) -> float:
        """CPU seconds of everything the daemon runs."""
        return sum(self.seconds().values())


class EnergyService(Service):
    """Owns the meter; everybody else reads ``snapshot``."""

    def __init__(
        self,
        meter: Meter,
        cpu: CpuAccount,
        *,
        idle_watts: float,
        period: float = 1.0,
        store: Store | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("energy")
        self.meter = meter
        self.cpu = cpu
        self._idle_watts = idle_watts
        self._period = period
        self._store = store
        self._monotonic = monotonic
        self._now = now
        self._lock = threading.Lock()
        self._workloads: dict[str, float] = {}
        self._persisted: dict[str, float] = {}
        self._persisted_at = monotonic()
        self._last_at = monotonic()
        self._last_cpu = cpu.seconds()
        reading = meter.read(self._last_at)
        self._last_gross = _gross(reading)
        self._first_gross = self._last_gross
        self._snapshot = EnergySnapshot(reading=reading)

    def snapshot(self) -> EnergySnapshot:
        """The latest published snapshot; costs nothing."""
        return self._snapshot

    def sample(self) -> EnergySnapshot:
        """Read the meter now and publish; used by the loop, and where a round needs an exact boundary."""
        with self._lock:
            now = self._monotonic()
            reading = self.meter.read(now)
            cpu = self.cpu.seconds()
            gross = _gross(reading)
            step = max(0.0, gross - self._last_gross)
            above_idle = max(0.0, step - self._idle_watts * max(0.0, now - self._last_at))
            used = {name: max(0.0, cpu[name] - self._last_cpu.get(name, 0.0)) for name in cpu}
            busy = sum(used.values())
            if busy > 0:
                for name, seconds in used.items():
                    self._workloads[name] = self._workloads.get(name, 0.0) + above_idle * seconds / busy
            self._last_at, self._last_cpu, self._last_gross = now, cpu, gross
            self._snapshot = EnergySnapshot(
                reading=reading, gross_joules=gross - self._first_gross, workloads=dict(self._workloads)
            )
            return self._snapshot

    def run(self) -> None:
        """Sample until stopped; persist once a minute."""
        while not self.stopping.wait(self._period):
            self.sample()
            self.beat()
            if self._monotonic() - self._persisted_at >= PERSIST_SECONDS:
                self.persist()

    def persist(self) -> None:
        """Add what was used since the last call to the store's table of days."""
        self._persisted_at = self._monotonic()
        if self._store is None:
            return
        snapshot = self.sample()
        day = datetime.fromtimestamp(self._now(), timezone.utc).strftime("%Y-%m-%d")
        totals = {**snapshot.workloads, "idle": snapshot.idle_joules}
        steps = {name: joules - self._persisted.get(name, 0.0) for name, joules in totals.items()}
        self._persisted = totals
        source, method = self.meter.source, self.meter.method

        def write(db: Database) -> None:
            for name, joules in steps.items():
                if joules > 0:
                    ledger.add_energy(db, day, name, source, method, joules)

        self._store.submit(write)


def _gross(reading: EnergyReading) -> float:
    return sum(domain.joules for domain in reading.domains)
