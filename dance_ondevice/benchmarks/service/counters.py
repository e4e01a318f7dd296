"""What the kernel counts of a process: CPU time, that of its ended children, and resident memory."""

from __future__ import annotations

import os
import statistics
import threading
from dataclasses import dataclass
from pathlib import Path

#: Seconds between two looks at resident memory.
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class CpuTime:
    """CPU seconds, user and system.

    Attributes:
        own: Of the process, all threads.
        children: Of its children that have ended and were waited for.
    """

    own: float
    children: float

    def __sub__(self, before: CpuTime) -> CpuTime:
        """Return what was used in between."""
        return CpuTime(self.own - before.own, self.children - before.children)


def cpu_time(pid: int, procfs: Path = Path("/proc")) -> CpuTime:
    """Read the CPU time of a process (proc(5), stat: utime, stime, cutime, cstime).

    Raises:
        OSError: There is no such process.
    """
    text = (procfs / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    # The second field is the program's name in brackets, which may itself contain blanks and brackets.
    ticks = [int(field) for field in text.rpartition(")")[2].split()[11:15]]
    second = os.sysconf("SC_CLK_TCK")
    return CpuTime((ticks[0] + ticks[1]) / second, (ticks[2] + ticks[3]) / second)


class Memory:
    """Looks at a process's resident memory now and then, inside a ``with``."""

    def __init__(self, pid: int, procfs: Path = Path("/proc")) -> None:
        self._file = procfs / str(pid) / "status"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory-looks", daemon=True)
        self._seen: list[float] = []

    def __enter__(self) -> Memory:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    @property
    def median_mb(self) -> float:
        """Median of what was seen, in megabytes."""
        return statistics.median(self._seen) if self._seen else float("nan")

    def peak_mb(self) -> float:
        """Most that the process ever had, in megabytes, as the kernel keeps it.

        Raises:
            OSError: The process has ended.
        """
        return self._field("VmHWM")

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                self._seen.append(self._field("VmRSS"))
            except OSError:
                return

    def _field(self, name: str) -> float:
        for line in self._file.read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise OSError(f"{self._file} has no {name}")
