"""How many threads may compute: no more than there are cores, whatever the configuration says.

The same file may serve a small board and a large one, so a number beyond the cores is no mistake: it is cut
to what is there, and said. A container's or a unit's share of processor time counts as that many cores
(``docker run --cpus``, ``CPUQuota=``): more threads would only use it up sooner, and then all stand still for
the rest of each tenth of a second.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from dance_ondevice.daemon.system.cgroups import CGROUPS, cpu_shares


def cores(procfs: Path = Path("/proc"), cgroups: Path = CGROUPS) -> int:
    """The cores that this process may use, a share of one counted as one."""
    there = len(os.sched_getaffinity(0)) or 1
    return max(1, min([there, *(math.ceil(share) for share in cpu_shares(procfs, cgroups))]))


def usable(threads: int) -> int:
    """What is used of a configured number of threads; 0 stands for all cores."""
    return min(threads or cores(), cores())


def warning(key: str, threads: int) -> str:
    """What to say of a configured number of threads; "" where it is used as it is."""
    if threads <= cores():
        return ""
    return f"{key} = {threads} is more than the cores that there are: {cores()} threads are used"
