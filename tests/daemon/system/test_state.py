from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.daemon.system.state import (
    CAMERA_NAME,
    StateInUse,
    StateLock,
    StatePaths,
    parse_sample_id,
    sample_id,
)

CAMERAS = st.from_regex(CAMERA_NAME, fullmatch=True)


def test_a_sample_lies_under_its_camera_and_utc_date(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path)
    assert paths.sample_dir("front", 1760054399.9) == tmp_path / "samples" / "front" / "2025-10-09"
    assert paths.sample_dir("front", 1760054400.0) == tmp_path / "samples" / "front" / "2025-10-10"


@pytest.mark.parametrize("camera", ["", ".", "..", "a/b", "../x", "a\0b", "-x", "x" * 65, "ä", "a\n"])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, camera: str) -> None:
    with pytest.raises(ValueError, match="camera name"):
        StatePaths(tmp_path).sample_dir(camera, 0.0)


@pytest.mark.parametrize("time", [-1.0, float("nan"), float("inf"), 1e12])
def test_a_time_without_a_date_is_refused(tmp_path: Path, time: float) -> None:
    with pytest.raises(ValueError, match="captured_at"):
        StatePaths(tmp_path).sample_dir("front", time)


@given(camera=CAMERAS, at=st.floats(0, 4e9), seq=st.integers(-(2**63), 2**63 - 1))
def test_an_id_can_be_read_back(camera: str, at: float, seq: int) -> None:
    found = parse_sample_id(camera, sample_id(camera, at, seq))
    assert found is not None
    assert found[0] == pytest.approx(at, abs=2e-6)
    assert found[1] == seq


@given(camera=CAMERAS, identifier=st.text(max_size=40))
def test_what_is_no_id_is_told_apart(camera: str, identifier: str) -> None:
    found = parse_sample_id(camera, identifier)
    assert found is None or identifier.startswith(f"{camera}-")


@pytest.mark.parametrize(
    "identifier", ["front-1-2.label", "front-01-2", "front-1-2-3", "front-1", "rear-1-2", f"front-1-{2**63}"]
)
def test_ids_of_other_shapes_are_none(identifier: str) -> None:
    assert parse_sample_id("front", identifier) is None


def test_the_lock_names_the_process_that_holds_it(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path / "state")
    with StateLock(paths), pytest.raises(StateInUse, match=f"pid {os.getpid()}"), StateLock(paths):
        pass
    with StateLock(paths):
        assert paths.lock.read_text() == f"{os.getpid()}\n"


@pytest.mark.slow
def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from dance_ondevice.daemon.system.state import StateLock, StatePaths\n"
        "with StateLock(StatePaths(Path(sys.argv[1]))): print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateInUse, match=f"pid {holder.pid}"), StateLock(StatePaths(tmp_path)):
            pass
        holder.kill()
        holder.wait()
    with StateLock(StatePaths(tmp_path)):
        pass


def test_a_new_folder_is_its_owners_alone_and_one_that_is_there_keeps_its_rights(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o750)
    for name, mode in (("above/new", 0o700), ("shared", 0o750)):
        with StateLock(StatePaths(tmp_path / name)):
            assert (tmp_path / name).stat().st_mode & 0o777 == mode


def test_the_lock_file_stays(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path)
    with StateLock(paths):
        inode = paths.lock.stat().st_ino
    with StateLock(paths):
        assert paths.lock.stat().st_ino == inode


def test_a_child_process_does_not_inherit_the_lock(tmp_path: Path) -> None:
    with StateLock(StatePaths(tmp_path)):
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    try:
        with StateLock(StatePaths(tmp_path)):
            pass
    finally:
        child.communicate()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("what is in it")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "lock").symlink_to(tmp_path / "other")
    with pytest.raises(OSError), StateLock(StatePaths(tmp_path / "state")):
        pass
    assert (tmp_path / "other").read_text() == "what is in it"


def test_an_index_is_a_file(tmp_path: Path) -> None:
    assert not StatePaths(tmp_path).has_database()
    (tmp_path / "dance.db").mkdir()
    assert not StatePaths(tmp_path).has_database()
    (tmp_path / "file").touch()
    assert not StatePaths(tmp_path / "file").has_database()
    StatePaths(tmp_path / "s").root.mkdir()
    StatePaths(tmp_path / "s").database.touch()
    assert StatePaths(tmp_path / "s").has_database()
