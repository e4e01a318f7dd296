"""Reading an index where nothing can be written: another user's folder, a read-only disk."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import stored

from dance_ondevice.daemon.doctor.checks import check_database
from dance_ondevice.daemon.store.service import connect_read_only, open_reader
from dance_ondevice.daemon.system.state import StatePaths


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[StatePaths]:
    """A state folder of two samples in which nothing can be written."""
    paths = StatePaths(tmp_path / "sealed")
    paths.root.mkdir()
    root = os.geteuid() == 0  # may write wherever modes forbid it
    if root and subprocess.run(["mount", "-t", "tmpfs", "tmpfs", paths.root], check=False).returncode:
        pytest.skip("this user can write everywhere, and cannot mount")
    try:
        with stored.opened(paths) as store:
            for seq in range(2):
                store.add_sample(stored.new_sample(seq)).result(30)
        if root:
            subprocess.run(["mount", "-o", "remount,ro", paths.root], check=True)
        else:
            paths.root.chmod(0o555)
        yield paths
    finally:
        if root:
            subprocess.run(["umount", paths.root], check=True)
        else:
            paths.root.chmod(0o755)


def test_an_index_is_read_where_nothing_can_be_written(sealed: StatePaths) -> None:
    with pytest.raises(OSError):
        (sealed.root / "x").touch()
    with closing(open_reader(sealed).conn) as connection:
        assert connection.execute("SELECT count(*) FROM samples").fetchone() == (2,)
    assert check_database(sealed).status == "ok"


def test_an_index_in_use_is_read_with_its_log(paths: StatePaths) -> None:
    with stored.opened(paths) as store:
        store.add_sample(stored.new_sample(0)).result(30)
        with closing(connect_read_only(paths.database)) as connection:
            assert connection.execute("SELECT count(*) FROM samples").fetchone() == (1,)


def test_an_index_is_read_under_any_name(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"\xff a%#?.db")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE samples (id)")
    with closing(connect_read_only(file)) as connection:
        assert connection.execute("SELECT count(*) FROM samples").fetchone() == (0,)
