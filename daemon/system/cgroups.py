"""What the control groups around this process allow it, by ``docker run --cpus --memory`` or a unit's limits.

Versions 1 and 2 are read: https://docs.kernel.org/admin-guide/cgroup-v2.html,
https://docs.kernel.org/scheduler/sched-bwc.html and https://docs.kernel.org/admin-guide/cgroup-v1/memory.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["CGROUPS", "cpu_shares", "memory_left"]

#: Where control groups are mounted.
CGROUPS = Path("/sys/fs/cgroup")


def cpu_shares(procfs: Path, cgroups: Path) -> Iterator[float]:
    """Processor seconds in a second that the groups allow, each that limits them."""
    for folder, version in _folders(procfs, cgroups, "cpu"):
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if version == 1 else ("cpu.max",)
        quota, period, *_ = *" ".join(_text(folder / name) for name in files).split(), "", ""
        if quota.isdecimal() and period.isdecimal() and int(period):
            yield int(quota) / int(period)


def memory_left(procfs: Path, cgroups: Path) -> Iterator[int]:
    """Bytes that are left of what the groups allow, each that limits them.

    Cached files count as left, as in ``MemAvailable``: the kernel takes them back first.
    """
    for folder, version in _folders(procfs, cgroups, "memory"):
        # Above ``memory.high`` (``MemoryHigh=``) nobody is killed, but slowed down until nothing goes on.
        limits, used, cached = (
            (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")
            if version == 1
            else (("memory.max", "memory.high"), "memory.current", "inactive_file")
        )
        most, current = [_text(folder / name) for name in limits], _text(folder / used)
        allowed = [int(limit) for limit in most if limit.isdecimal()]
        if allowed and current.isdecimal():
            found = re.search(rf"^{cached} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
            yield max(0, min(allowed) - int(current) + (int(found[1]) if found else 0))


def _folders(procfs: Path, cgroups: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Folders of this process's group and of those around it, and the version of their files."""
    for line in _text(procfs / "self" / "cgroup").splitlines():
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        # Up to the mount's top, since a container may be told a path that only its host has.
        inner = PurePosixPath(group.lstrip("/"))
        for each in (inner, *inner.parents):
            yield cgroups / controllers / each, 1 if controllers else 2


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
