"""Raises the priority of a child process that runs in the idle class."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def raise_priority(pid: int, procfs: Path = Path("/proc")) -> None:
    """Give all threads of a child the priority of ordinary processes.

    A child in the idle class may get no CPU time on a busy board, even to save its state within seconds. The
    kernel allows this to root, and to others within their limit of niceness (RLIMIT_NICE, which the unit
    sets); where it is not allowed, or the child is gone, nothing happens.
    """
    with contextlib.suppress(OSError):
        for thread in (procfs / str(pid) / "task").iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, int(thread.name), 0)
