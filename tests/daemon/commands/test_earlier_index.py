"""Commands on a folder of an earlier version that no daemon of this one has opened yet."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATE = Path(__file__).resolve().parents[2] / "states" / "0.1.0"


def test_a_folder_of_an_earlier_version_is_read_and_backed_up_as_it_is(
    run_json: Callable[..., Any], run: Callable[..., Any], tmp_path: Path
) -> None:
    state, back = tmp_path / "state", tmp_path / "back"
    shutil.copytree(STATE, state)
    before = (state / "dance.db").read_bytes()
    listed = run_json("samples", "list", "--state-dir", str(state))
    assert listed
    assert all(sample["arrival"] for sample in listed)  # a column that 0.1.0 does not have
    run("backup", str(tmp_path / "b.tar"), "--state-dir", str(state))
    run("restore", str(tmp_path / "b.tar"), "--state-dir", str(back))
    assert (state / "dance.db").read_bytes() == before

    def steps(folder: Path) -> list[Any]:
        with sqlite3.connect(folder / "dance.db") as database:
            return database.execute("SELECT name FROM _sqlite_migrations ORDER BY name").fetchall()

    assert steps(back) == steps(STATE)
    assert len(list((back / "samples").rglob("*.png"))) == len(list((STATE / "samples").rglob("*.png")))


def test_a_broken_index_is_told_and_closed(run: Callable[..., Any], tmp_path: Path) -> None:
    data = bytearray((STATE / "dance.db").read_bytes())
    data[100:4000] = b"\xff" * 3900
    (tmp_path / "dance.db").write_bytes(data)
    assert "malformed" in run("samples", "list", "--state-dir", str(tmp_path), code=1).stderr
    open_files = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
    assert not [file for file in open_files if file.startswith(str(tmp_path))]
