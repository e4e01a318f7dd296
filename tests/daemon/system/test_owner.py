"""What root makes in the folder of a service's user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dance_ondevice.daemon.system.owner import command_lock, give_to_owner
from dance_ondevice.daemon.system.state import StatePaths

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for another user")
USER = 61234


@needs_root
def test_what_a_command_of_root_makes_belongs_to_the_folders_owner(tmp_path: Path) -> None:
    paths, disk, foreign = StatePaths(tmp_path / "state"), tmp_path / "disk", tmp_path / "foreign"
    for folder in (paths.root, disk / "lost+found", foreign):
        folder.mkdir(parents=True)
    (foreign / "key").touch()
    os.chown(paths.root, USER, USER)
    os.chown(disk, USER, USER)
    paths.samples.symlink_to(disk)
    (tmp_path / "name").symlink_to(paths.root)  # as systemd's DynamicUser has it
    with command_lock(StatePaths(tmp_path / "name")):
        (paths.models / "v0001").mkdir(parents=True)
        paths.database.touch()
        (paths.samples / "front").mkdir()
        (paths.root / "way").symlink_to(foreign)
        (paths.root / "key").hardlink_to(foreign / "key")
    made = [paths.lock, paths.database, paths.models, paths.models / "v0001", disk / "front"]
    assert {path.stat().st_uid for path in made} == {USER}
    others = [foreign, foreign / "key", paths.root / "key", disk / "lost+found"]
    assert {path.stat().st_uid for path in others} == {0}


@needs_root
def test_a_link_to_what_the_owner_does_not_own_is_not_entered(tmp_path: Path) -> None:
    root, foreign = tmp_path / "state", tmp_path / "foreign"
    for folder in (root, foreign):
        folder.mkdir()
    (foreign / "shadow").touch()
    os.chown(root, USER, USER)
    (root / "samples").symlink_to(foreign)
    give_to_owner(root)
    assert (foreign / "shadow").stat().st_uid == 0


@needs_root
@pytest.mark.parametrize("samples", ["", "nowhere", "samples"])
def test_a_folder_without_samples_is_given_to_its_owner(tmp_path: Path, samples: str) -> None:
    (tmp_path / "a").touch()
    os.chown(tmp_path, USER, USER)
    if samples:
        (tmp_path / "samples").symlink_to(samples)
    give_to_owner(tmp_path)
    assert (tmp_path / "a").stat().st_uid == USER


def test_a_folder_of_ones_own_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    before = (tmp_path / "a").stat()
    give_to_owner(tmp_path)
    assert (tmp_path / "a").stat() == before
