from __future__ import annotations

import os
from pathlib import Path

import pytest

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.control.instances import DaemonFile, write_daemon_file
from dance_ondevice.daemon.doctor.descriptors import check_descriptors
from dance_ondevice.daemon.system.state import StatePaths


@pytest.mark.parametrize(
    ("hard", "status", "words"),
    [
        (72, "warning", "the hard limit is 72"),
        (1024, "warning", "the hard limit is 1024"),
        (4096, "ok", "of senders"),
        (524288, "ok", "1024 of senders"),
        (-1, "ok", "1024 of senders"),
    ],
)
def test_the_limit_is_named_with_what_connections_get_of_it(
    tmp_path: Path, hard: int, status: str, words: str
) -> None:
    check = check_descriptors(Config(), StatePaths(tmp_path), Path("/proc"), hard_limit=lambda: hard)
    assert check.status == status
    assert words in check.detail
    assert ("LimitNOFILE" in check.remedy) == (status == "warning")


def test_a_running_daemon_is_looked_at_itself(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path)
    write_daemon_file(paths, DaemonFile(pid=os.getpid(), control="ipc:///x"))
    procfs = tmp_path / "proc"
    (procfs / str(os.getpid()) / "fd").mkdir(parents=True)
    (procfs / str(os.getpid()) / "limits").write_text(
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max open files            1024                 4096                 files     \n"
    )
    for number in range(900):
        (procfs / str(os.getpid()) / "fd" / str(number)).touch()
    check = check_descriptors(Config(), paths, procfs)
    assert (check.status, check.detail.split(";")[0]) == (
        "warning",
        "the running daemon has 900 of 1024 open",
    )
