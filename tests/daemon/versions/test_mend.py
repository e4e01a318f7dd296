"""A live.json that was damaged: by a worn card, by hand, by a program that went astray."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import mend
from dance_ondevice.daemon.versions.versions import Pointer, VersionError, Versions


@pytest.fixture
def three(paths: StatePaths, store: Store) -> Versions:
    """Three versions, the second of them live, the third rejected."""
    versions = Versions(paths, store, now=lambda: 1.0)
    for number, status in enumerate(("candidate", "candidate", "rejected")):
        folder = paths.rounds / "candidate"
        folder.mkdir()
        (folder / "card.json").write_text(json.dumps({"architecture": "fastscnn"}))
        (folder / "model.safetensors").write_bytes(b"tensors")
        parent = f"v{number:04}" if number else None
        versions.adopt(folder, status=status, round_id=None, changes={"parent": parent})
    versions.make_live("v0001", reason="first")
    versions.make_live("v0002", reason="better")
    return versions


def zeros(file: Path) -> None:
    file.write_bytes(b"\0" * file.stat().st_size)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("damage", [zeros, folder, pipe, lambda file: file.write_text('{"version": 5}')])
def test_the_index_says_which_version_was_live(
    three: Versions, paths: StatePaths, store: Store, damage: Callable[[Path], object]
) -> None:
    assert mend.live_file(paths, store) is None
    damage(paths.live_file)
    said = mend.live_file(paths, store)
    assert said is not None
    assert "live.json.damaged-1" in said
    assert "v0002 stays live" in said
    assert three.pointer() == Pointer("v0002", "v0001", "v0001")
    assert (paths.models / "live.json.damaged-1").exists()
    assert mend.live_file(paths, store) is None


def test_where_the_index_does_not_know_a_person_has_to_say(
    three: Versions, paths: StatePaths, store: Store
) -> None:
    store.submit(lambda db: db.execute("update versions set status = 'retired'")).result()
    zeros(paths.live_file)
    assert mend.live_file(paths, store) is None
    with pytest.raises(VersionError, match=r"live\.json is not readable"):
        three.pointer()


def test_without_any_version_the_next_one_begins_anew(paths: StatePaths, store: Store) -> None:
    paths.live_file.write_bytes(b"")
    assert mend.live_file(paths, store) is not None
    assert Versions(paths, store, now=lambda: 1.0).pointer() is None
