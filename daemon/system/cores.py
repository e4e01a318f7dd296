"""How many threads may compute: no more than there are cores, whatever the configuration says.

The same file may serve a small board and a large one, so a number beyond the cores is no mistake: it is cut
to what is there, and said.
"""

from __future__ import annotations

import os


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) or 1


def usable(threads: int) -> int:
    """What is used of a configured number of threads; 0 stands for all cores."""
    return min(threads or cores(), cores())


def warning(key: str, threads: int) -> str:
    """What to say of a configured number of threads; "" where it is used as it is."""
    if threads <= cores():
        return ""
    return f"{key} = {threads} is more than the cores that there are: {cores()} threads are used"
