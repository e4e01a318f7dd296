"""CPU seconds of processes, threads, control groups and the whole board, from procfs and cgroup v2."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
#: Columns of ``cpu`` in /proc/stat: user, nice, system, irq and softirq. Guest time is included in user, and
#: stolen time was spent by another machine.
_BUSY_COLUMNS = (0, 1, 2, 5, 6)


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
        # Once a second for every thread: without pathlib and decoding it takes a third of the time.
        descriptor = os.open(f"{procfs}/{pid}/task/{tid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        stat = os.read(descriptor, 4096)
    except OSError:  # it ended in between
        return None
    finally:
        os.close(descriptor)
    fields = stat.rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def threads_named(procfs: Path, pid: int, prefix: str) -> list[int]:
    """Kernel ids of a process's threads whose names begin with ``prefix``, such as a library's."""
    found = []
    for task in sorted((procfs / str(pid) / "task").glob("*")):
        try:
            if (task / "comm").read_text().startswith(prefix):
                found.append(int(task.name))
        except (OSError, ValueError):
            continue
    return found


def board_seconds(procfs: Path) -> float | None:
    """Busy CPU seconds of all programs on all cores since boot; None when the kernel does not report them.

    The ``cpu`` line of /proc/stat (proc_stat(5)), which a container shows for the whole machine, too.
    """
    try:
        columns = (procfs / "stat").read_text().partition("\n")[0].split()
        return sum(int(columns[1 + index]) for index in _BUSY_COLUMNS) / _TICKS
    except (OSError, ValueError, IndexError):
        return None


def own_cgroup(procfs: Path, sysfs: Path, pid: int) -> Path | None:
    """The folder of the cgroup v2 that holds one process and no other; None where there is none.

    Under systemd a service has such a group. A process started from a shell shares the session's group with
    other programs, whose time must not be counted as its own.

    Args:
        procfs: Root of procfs.
        sysfs: Root of sysfs, below which ``fs/cgroup`` is mounted.
        pid: The process, before it starts others.
    """
    try:
        lines = (procfs / str(pid) / "cgroup").read_text().splitlines()
        (path,) = (line.removeprefix("0::") for line in lines if line.startswith("0::"))
        folder = sysfs / "fs" / "cgroup" / path.lstrip("/")
        members = (folder / "cgroup.procs").read_text().split()
    except (OSError, ValueError):
        return None
    return folder if members == [str(pid)] and cgroup_seconds(folder) is not None else None


def cgroup_seconds(folder: Path) -> float | None:
    """CPU seconds of all processes of a cgroup v2 (``usage_usec`` of cpu.stat); None if unavailable."""
    try:
        for line in (folder / "cpu.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "usage_usec":
                return int(value) / 1e6
    except (OSError, ValueError):
        pass
    return None
