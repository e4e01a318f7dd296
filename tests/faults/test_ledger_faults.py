"""The ledger when the process is killed at any point, the clock jumps by years, or both."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ledger_worker
import pytest
from ledger_worker import BUDGET, QUANTUM, RESERVED, keeper, start_up

from dance_ondevice.daemon.energy.budget import BudgetKeeper
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths

WALL = 1_760_000_000.0
YEAR = 365 * 86_400.0


@pytest.fixture
def procfs(tmp_path: Path) -> Path:
    root = tmp_path / "proc"
    boot(root, "first")
    return root


def boot(procfs: Path, name: str) -> None:
    folder = procfs / "sys" / "kernel" / "random"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "boot_id").write_text(name)


@contextmanager
def started(
    paths: StatePaths, procfs: Path, *, monotonic: float = 50.0, wall: float = WALL
) -> Iterator[tuple[Store, BudgetKeeper]]:
    """The account as a daemon finds it when it starts now."""
    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    store.start()
    try:
        budget = keeper(store, procfs, monotonic=monotonic, wall=wall)
        start_up(store, budget, wall)
        yield store, budget
    finally:
        assert store.stop(30)


def settled(store: Store) -> tuple[float, int]:
    """Joules on record as spent, and how many entries are still open."""
    sql = "select coalesce(sum(settled_joules), 0), sum(closed_at is null) from ledger"
    joules, opened = store.submit(lambda db: db.execute(sql).fetchone()).result()
    return joules, opened or 0


@pytest.mark.slow
def test_a_kill_at_any_point_gives_no_joules_back(tmp_path: Path, procfs: Path) -> None:
    paths = StatePaths(tmp_path / "state")
    with started(paths, procfs) as (_, budget):
        assert budget.balance() == BUDGET
    spent = 0.0
    for kills, die_at in enumerate(sorted(random.Random(4).sample(range(4, 110), 14)), start=1):
        worker = subprocess.run(
            [sys.executable, ledger_worker.__file__, paths.root, procfs, "50", str(WALL), str(die_at)],
            stdout=subprocess.PIPE,
            check=False,
        )
        assert worker.returncode == -signal.SIGKILL
        spent += sum(map(float, worker.stdout.split()))
        with started(paths, procfs) as (store, budget):
            joules, opened = settled(store)
            assert opened == 0
            assert joules >= spent
            # What the account lacks is what the ledger shows, and a crash costs one reservation at the most.
            assert budget.balance() == pytest.approx(BUDGET - joules)
            assert budget.spendable() * budget.rules.margin == pytest.approx(BUDGET - joules)
            assert joules <= spent + kills * RESERVED
    assert spent > 5 * QUANTUM, "the worker was killed before it spent anything"


def test_no_clock_jump_gives_more_than_time_did(tmp_path: Path, procfs: Path) -> None:
    paths = StatePaths(tmp_path / "state")
    with started(paths, procfs) as (_, budget):
        budget.reserve("r1", 8000.0)
        budget.settle("r1", gross=8000.0, attributed=1.0, method="modelled")
    hour = BUDGET / 24

    # The same boot: the monotonic clock alone counts, whatever the calendar says.
    with started(paths, procfs, monotonic=3650.0, wall=WALL + 20 * YEAR) as (_, budget):
        assert budget.balance() == pytest.approx(2000.0 + hour)
    # A boot in the past, before the time arrives, again and again: nothing flows in, then what is due.
    for name in ("second", "third"):
        boot(procfs, name)
        with started(paths, procfs, monotonic=5.0, wall=0.0) as (_, budget):
            assert budget.balance() == pytest.approx(2000.0 + hour)
    boot(procfs, "fourth")
    with started(paths, procfs, monotonic=5.0, wall=WALL + 20 * YEAR + 3600.0) as (_, budget):
        assert budget.balance() == pytest.approx(2000.0 + 2 * hour)
        # What was spent two hours ago still counts for the day.
        assert budget.spendable() * budget.rules.margin == pytest.approx(2000.0)
    # Years later there is one day's budget, not years of it.
    boot(procfs, "fifth")
    with started(paths, procfs, monotonic=5.0, wall=WALL + 40 * YEAR) as (_, budget):
        assert budget.balance() == BUDGET
