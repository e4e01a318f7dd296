"""Taking a process out of the idle class, when it is needed after all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def raise_priority(pid: int, procfs: Path = Path("/proc")) -> None:
    """Let all threads of a child compete like any other process.

    A child in the idle class that is to save its state within seconds may not get one of them on a busy
    board. The kernel allows it to root, and to others as far as their limit of niceness goes (RLIMIT_NICE;
    the unit sets it); where it does not, or the child is gone, nothing happens.
    """
    with contextlib.suppress(OSError):
        for thread in (procfs / str(pid) / "task").iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, int(thread.name), 0)
