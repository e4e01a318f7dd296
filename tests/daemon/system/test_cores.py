from __future__ import annotations

import os
from pathlib import Path

import pytest

from dance_ondevice.daemon.system.cores import cores, usable, warning


@pytest.mark.parametrize(
    ("cgroup", "files", "most"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),  # docker run --cpus=1.5
        (
            "0::/a.slice/b.service\n",
            {"a.slice/cpu.max": "50000 100000", "a.slice/b.service/cpu.max": "max 100000"},
            1,
        ),
        ("0::/\n", {"cpu.max": "max 100000"}, 8),
        ("0::/gone\n", {}, 8),
        (
            "4:memory:/x\n3:cpu,cpuacct:/docker/0123\n0::/\n",  # version 1: a container's own is at the top
            {"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            3,
        ),
        ("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("nonsense\n\n::", {"cpu.max": "1 0 x"}, 8),
    ],
)
def test_a_share_of_processor_time_counts_as_so_many_cores(
    cgroup: str, files: dict[str, str], most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name, text in {"proc/self/cgroup": cgroup, **{f"cg/{n}": t for n, t in files.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores(tmp_path / "proc", tmp_path / "cg") == most
    assert cores(tmp_path / "nowhere", tmp_path / "cg") == 8


def test_a_configured_number_is_cut_to_what_there_is() -> None:
    assert usable(0) == cores() == usable(10_000)
    assert usable(1) == 1
    assert warning("training.threads", 1) == ""
    assert str(cores()) in warning("training.threads", 10_000)
