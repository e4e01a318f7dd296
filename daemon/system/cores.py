"""How many threads may compute: no more than there are cores, whatever the configuration says.

The same file may serve a small board and a large one, so a number beyond the cores is no mistake: it is cut
to what is there, and said. A container's or a unit's share of processor time counts as that many cores
(``docker run --cpus``, ``CPUQuota=``): more threads would only use it up sooner, and then all stand still for
the rest of each tenth of a second.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def cores(procfs: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores that this process may use, a share of one counted as one."""
    there = len(os.sched_getaffinity(0)) or 1
    return max(1, min([there, *(math.ceil(share) for share in _shares(procfs, cgroups))]))


def usable(threads: int) -> int:
    """What is used of a configured number of threads; 0 stands for all cores."""
    return min(threads or cores(), cores())


def warning(key: str, threads: int) -> str:
    """What to say of a configured number of threads; "" where it is used as it is."""
    if threads <= cores():
        return ""
    return f"{key} = {threads} is more than the cores that there are: {cores()} threads are used"


def _shares(procfs: Path, cgroups: Path) -> Iterator[float]:
    """Processor seconds in a second that the control groups around this process allow, each that limits it.

    See https://docs.kernel.org/admin-guide/cgroup-v2.html (``cpu.max``) and, for version 1,
    https://docs.kernel.org/scheduler/sched-bwc.html.
    """
    for line in _text(procfs / "self" / "cgroup").splitlines():
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Beside the mount's top, since a container may be told a path that only its host has.
        inner = PurePosixPath(group.lstrip("/"))
        for each in (inner, *inner.parents):
            folder = cgroups / controllers / each
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            quota, period, *_ = *" ".join(_text(folder / name) for name in files).split(), "", ""
            if quota.isdecimal() and period.isdecimal() and int(period):
                yield int(quota) / int(period)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
