"""A process that reserves, spends and settles round after round until it kills itself at a given point.

Usage: ledger_worker.py STATE_DIR PROCFS MONOTONIC WALL DIE_AT

Points are the SQL statements of the store and the quanta that a round spends. Each quantum is told on stdout
before it is spent, so what was spent is never more than what was told.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path

from dance_ondevice.daemon.config.sections import Energy
from dance_ondevice.daemon.energy import ledger
from dance_ondevice.daemon.energy.budget import BudgetKeeper
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StateLock, StatePaths

RESERVED = 100.0
QUANTUM = 12.0
BUDGET = 10_000.0


def keeper(store: Store, procfs: Path, *, monotonic: float, wall: float) -> BudgetKeeper:
    """An account whose clocks stand still: nothing flows in while a test runs."""
    energy = Energy(budget_joules_per_day=BUDGET, procfs_root=str(procfs), sysfs_root=str(procfs / "none"))
    return BudgetKeeper(store, energy, now=lambda: wall, monotonic=lambda: monotonic)


def start_up(store: Store, budget: BudgetKeeper, wall: float) -> None:
    """What the daemon does at its start."""
    budget.load(history_lost=False)
    store.submit(lambda db: ledger.settle_crashed(db, wall)).result()


def main(state_dir: Path, procfs: Path, monotonic: float, wall: float, die_at: int) -> None:
    """Run until the point is reached."""
    points = itertools.count(1)

    def point(_statement: str = "") -> None:
        if next(points) >= die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    paths = StatePaths(state_dir)
    with StateLock(paths):
        store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
        store.start()
        store.submit(lambda db: db.conn.set_trace_callback(point)).result()
        budget = keeper(store, procfs, monotonic=monotonic, wall=wall)
        start_up(store, budget, wall)
        for number in itertools.count():
            name = f"{die_at}-{number}"
            budget.reserve(name, RESERVED)
            spent = 0.0
            for _ in range(1 + number % 8):
                os.write(sys.stdout.fileno(), f"{QUANTUM}\n".encode())
                point()
                spent += QUANTUM
            budget.settle(name, gross=spent, attributed=spent / 2, method="modelled")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
