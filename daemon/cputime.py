"""CPU seconds of processes and threads, read from procfs."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def process_seconds(procfs: Path, pid: int) -> float | None:
    """User and system CPU seconds of a process and its reaped children; None when it is gone."""
    try:
        stat = (procfs / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The command name may hold spaces and brackets: fields are counted after the last one.
    fields = stat.rpartition(")")[2].split()
    return sum(int(f) for f in fields[11:15]) / _TICKS


def thread_seconds(procfs: Path, pid: int, tid: int) -> float | None:
    """CPU seconds of one thread; None when it is gone."""
    try:
        stat = (procfs / str(pid) / "task" / str(tid) / "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(procfs: Path, pid: int) -> int | None:
    """Resident set of a process in bytes; None when it is gone."""
    try:
        pages = (procfs / str(pid) / "statm").read_text().split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
