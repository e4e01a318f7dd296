from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from dance_ondevice.files import (
    Data,
    check_replaceable,
    is_leftover,
    leftover_of,
    read_regular,
    temporary_beside,
    write_durably,
    write_synced,
    write_whole,
)


def test_a_durable_write_replaces_whole(tmp_path: Path) -> None:
    file = tmp_path / "live.json"
    write_durably(file, b"old")
    write_durably(file, b"new")
    assert file.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["live.json"]


def test_a_failed_durable_write_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "live.json"
    write_durably(file, b"old")

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_durably(file, b"new")
    assert file.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["live.json"]


def test_a_failed_rename_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    (target / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_durably(target, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_the_content_is_flushed_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "live.json"
    seen: list[tuple[str, bool]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        seen.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, file.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_durably(file, b"x")
    assert is_leftover(seen[0][0])
    assert seen[0][1] is False
    assert seen[1] == (tmp_path.name, True)
    assert len(seen) == 2


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    write_synced(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


@pytest.mark.parametrize("write", [write_durably, write_whole])
def test_what_a_killed_write_leaves_is_known_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, Data], None]
) -> None:
    def killed(_self: Path, _target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "engine-1.onnx", b"graph")
    (left,) = tmp_path.iterdir()
    assert leftover_of(left.name) == "engine-1.onnx"


@pytest.mark.parametrize("name", [".live.json.0123abcd.tmp", ".engine-1.onnx.4711.part"])
def test_leftovers_of_this_version_and_of_earlier_ones_are_known(name: str) -> None:
    assert is_leftover(name)
    assert leftover_of(temporary_beside(Path("a.json")).name) == "a.json"


def test_a_temporary_name_is_new_in_a_program_that_seeds_its_numbers() -> None:
    state = random.getstate()
    try:
        names = []
        for _ in range(2):
            random.seed(0)
            names.append(temporary_beside(Path("a.json")))
    finally:
        random.setstate(state)
    assert names[0] != names[1]


@pytest.mark.parametrize("name", ["live.json", ".other.tmp", "a.0123abcd.tmp", ".a.part", ".0123abcd.tmp"])
def test_files_of_others_are_no_leftovers(name: str) -> None:
    assert not is_leftover(name)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    file, pipe, device = tmp_path / "file", tmp_path / "pipe", tmp_path / "device"
    file.write_bytes(b"whole")
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    assert read_regular(file) == b"whole"
    for other in (pipe, device):
        with pytest.raises(OSError, match="where a file belongs"):
            read_regular(other)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none")


def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    link.symlink_to("/dev/null")
    for write in (write_whole, write_durably):
        for path in (pipe, link):
            with pytest.raises(OSError, match="pipe, device or socket"):
                write(path, b"{}")
        write(file, b"{}")
    assert pipe.is_fifo()
    assert link.is_symlink()
    with pytest.raises(OSError, match="give the name of a file"):
        check_replaceable(Path("/dev/stdout"))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "link", "pipe"]
