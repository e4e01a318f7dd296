from __future__ import annotations

from pathlib import Path

import pytest

from dance_ondevice.daemon.children.watcher import available_memory

MIB = 1 << 20


@pytest.mark.parametrize(
    ("cgroup", "files", "mib"),
    [
        ("0::/\n", {"memory.max": "max", "memory.current": "5"}, 4096),
        (
            "0::/a.slice/b.service\n",
            {
                "a.slice/memory.max": str(900 * MIB),
                "a.slice/memory.current": str(700 * MIB),
                "a.slice/memory.stat": f"anon 1\nfile 2\ninactive_file {50 * MIB}\nactive_file 4\n",
                "a.slice/b.service/memory.max": str(2000 * MIB),
                "a.slice/b.service/memory.current": str(700 * MIB),
            },
            250,
        ),
        ("0::/\n", {"memory.max": "10", "memory.current": "20"}, 0),
        (
            "0::/b.service\n",  # MemoryHigh= without MemoryMax=, and below it
            {
                "memory.max": str(900 * MIB),
                "memory.high": str(800 * MIB),
                "memory.current": str(100 * MIB),
                "b.service/memory.max": "max",
                "b.service/memory.high": str(400 * MIB),
                "b.service/memory.current": str(100 * MIB),
            },
            300,
        ),
        (
            "5:memory:/docker/0123\n0::/\n",  # version 1, in a container
            {
                "memory/memory.limit_in_bytes": str(512 * MIB),
                "memory/memory.usage_in_bytes": str(212 * MIB),
                "memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {100 * MIB}\n",
            },
            400,
        ),
        ("5:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 4096),
    ],
)
def test_a_limit_of_memory_bounds_what_is_available(
    cgroup: str, files: dict[str, str], mib: int, tmp_path: Path
) -> None:
    proc = {"proc/self/cgroup": cgroup, "proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 4194304 kB\n"}
    for name, text in {**proc, **{f"cg/{n}": t for n, t in files.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path / "proc", tmp_path / "cg") == mib * MIB
