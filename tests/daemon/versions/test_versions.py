from __future__ import annotations

import errno
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dance_ondevice.daemon.store.rebuild import restore_versions
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions.versions import (
    KEEP,
    Pointer,
    VersionError,
    Versions,
    age_key,
    check_intact,
)
from dance_ondevice.files import write_durably


@pytest.fixture
def versions(paths: StatePaths, store: Store) -> Versions:
    return Versions(paths, store, now=lambda: 1_760_000_000.0)


def candidate(paths: StatePaths, **card: Any) -> Path:
    folder = paths.rounds / "candidate"
    folder.mkdir()
    (folder / "card.json").write_text(
        json.dumps({"architecture": "fastscnn", "macs": 5, "parameters": 2, **card})
    )
    (folder / "model.safetensors").write_bytes(b"tensors")
    return folder


def adopt(versions: Versions, paths: StatePaths, status: str = "candidate") -> str:
    return versions.adopt(candidate(paths), status=status, round_id="r1", changes={"parent": "v0000"})


def test_versions_are_numbered_and_keep_their_birth_certificate(
    versions: Versions, paths: StatePaths
) -> None:
    assert versions.pointer() is None
    assert adopt(versions, paths) == "v0001"
    assert adopt(versions, paths) == "v0002"
    assert versions.names() == ["v0001", "v0002"]
    card = versions.card("v0002")
    assert (card["version"], card["parent"], card["created_at"]) == ("v0002", "v0000", 1_760_000_000.0)
    assert (versions.directory("v0002") / "model.safetensors").read_bytes() == b"tensors"


def test_the_pointer_remembers_the_previous_and_the_first(
    versions: Versions, paths: StatePaths, store: Store
) -> None:
    for _ in range(3):
        adopt(versions, paths)
    versions.make_live("v0001", reason="first")
    versions.make_live("v0002", reason="better")
    pointer = versions.make_live("v0003", reason="better still")
    assert pointer == versions.pointer() == Pointer("v0003", "v0002", "v0001")
    # Making the live version live again changes nothing, least of all what a rollback goes back to.
    assert versions.make_live("v0003", reason="again") == pointer
    rows = store.submit(lambda db: list(db.query("select version, status from versions order by version")))
    assert [row["status"] for row in rows.result()] == ["retired", "retired", "live"]


def test_a_version_that_is_not_there_says_which_are(versions: Versions, paths: StatePaths) -> None:
    adopt(versions, paths)
    with pytest.raises(VersionError, match=r"'v0007'.*v0001"):
        versions.make_live("v0007", reason="test")
    assert versions.pointer() is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"previous": "v0001"}', "\xff"])
def test_a_damaged_pointer_says_what_to_do(versions: Versions, paths: StatePaths, content: str) -> None:
    paths.live_file.write_bytes(content.encode("latin-1"))
    with pytest.raises(VersionError, match=r"live\.json.*delete it"):
        versions.pointer()


def test_pruning_spares_the_live_the_previous_and_the_first(
    versions: Versions, paths: StatePaths, store: Store
) -> None:
    first = adopt(versions, paths)
    versions.make_live(first, reason="first")
    rejected = [adopt(versions, paths, "rejected") for _ in range(KEEP["rejected"] + 2)]
    live = adopt(versions, paths)
    versions.make_live(live, reason="better")
    assert versions.prune() == rejected[1::-1]
    assert versions.names() == [first, *rejected[2:], live]
    assert store.submit(lambda db: db["versions"].count).result() == len(versions.names())


def test_names_of_five_digits_are_newer_than_those_of_four(
    versions: Versions, paths: StatePaths, store: Store
) -> None:
    first = adopt(versions, paths, "rejected")
    versions.directory(first).rename(versions.directory("v9997"))
    store.submit(lambda db: db.execute("update versions set version = 'v9997'")).result()
    versions.make_live("v9997", reason="first")
    others = [adopt(versions, paths, "rejected") for _ in range(KEEP["rejected"] + 2)]
    assert others == ["v9998", "v9999", *(f"v{number}" for number in range(10_000, 10_005))]
    assert versions.names() == ["v9997", *others]
    assert versions.prune() == ["v9999", "v9998"]
    assert adopt(versions, paths) == "v10005"
    store.submit(lambda db: db.execute("update versions set status = 'retired'")).result()

    def loads(folder: Path) -> None:
        if folder.name in ("v9997", "v10005"):
            raise ValueError("damaged")

    versions.fall_back(loads)
    pointer = versions.pointer()
    assert pointer is not None
    assert pointer.version == "v10004"  # the newest that loads


def test_names_that_the_daemon_did_not_give_are_the_oldest() -> None:
    names = ["v10000", "v²", "base", "v0002", "v" + "9" * 5000, "v9999"]
    assert sorted(names, key=age_key)[-3:] == ["v0002", "v9999", "v10000"]


def test_the_version_of_a_round_is_known_by_its_card(versions: Versions, paths: StatePaths) -> None:
    for number in (1, 2):
        training = {"training": {"round": f"r{number}"}}
        versions.adopt(candidate(paths, **training), status="candidate", round_id=None, changes={})
    adopt(versions, paths)
    (versions.directory("v0002") / "card.json").write_text("damaged")
    assert [versions.of_round(f"r{number}") for number in (1, 2, 3)] == ["v0001", None, None]


def test_what_is_live_is_known_without_a_disk(versions: Versions, paths: StatePaths, store: Store) -> None:
    assert versions.live() is None
    adopt(versions, paths)
    pointer = versions.make_live("v0001", reason="first")
    paths.live_file.unlink()
    shutil.rmtree(versions.directory("v0001"))
    live = versions.live()
    assert live is not None
    assert live.pointer == pointer
    assert live.card["version"] == "v0001"
    assert Versions(paths, store, now=lambda: 0.0).live() is None


def real(paths: StatePaths, versions: Versions, content: bytes = b"tensors", status: str = "retired") -> str:
    digest = hashlib.sha256(b"tensors").hexdigest()
    folder = candidate(paths, sha256=digest)
    (folder / "model.safetensors").write_bytes(content)
    return versions.adopt(folder, status=status, round_id=None, changes={})


FLIPPED = b"tensorr"


def test_a_live_model_whose_loading_raises_anything_gives_way_to_the_one_before(
    versions: Versions, paths: StatePaths
) -> None:
    for version in (real(paths, versions), real(paths, versions)):
        versions.make_live(version, reason="test")

    def loads(folder: Path) -> None:
        if folder.name == "v0002":
            raise RuntimeError("no such operator")

    note = versions.fall_back(loads)
    assert note is not None
    assert "v0002 does not load (no such operator): v0001 is live" in note


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't allocate memory")],
)
def test_a_live_model_for_which_there_is_no_room_now_is_not_condemned(
    versions: Versions, paths: StatePaths, store: Store, error: Exception
) -> None:
    for version in (real(paths, versions), real(paths, versions)):
        versions.make_live(version, reason="test")

    def loads(folder: Path) -> None:
        if folder.name == "v0002":
            raise VersionError("v0002 cannot be read") from error

    note = versions.fall_back(loads)
    assert note is not None
    assert "'dance-ondevice models rollback' makes it live again" in note
    assert versions.pointer() == Pointer("v0001", "v0002", "v0001")
    statuses = store.submit(lambda db: {r["version"]: r["status"] for r in db["versions"].rows}).result()
    assert statuses == {"v0001": "live", "v0002": "retired"}


def test_a_live_model_with_a_flipped_bit_gives_way_to_the_one_before(
    versions: Versions, paths: StatePaths, store: Store
) -> None:
    real(paths, versions)
    real(paths, versions)
    real(paths, versions, FLIPPED)
    for version in ("v0001", "v0002", "v0003"):
        versions.make_live(version, reason="test")
    note = versions.fall_back(check_intact)
    assert note is not None
    assert "v0003 does not load" in note
    assert "SHA-256" in note
    assert "v0002 is live" in note
    assert versions.note == note
    assert versions.pointer() == Pointer("v0002", None, "v0001")
    (row,) = store.submit(
        lambda db: list(db.query("select * from versions where version = 'v0003'"))
    ).result()
    assert row["status"] == "damaged"
    assert versions.fall_back(check_intact) is None


def test_the_fall_back_passes_over_what_is_damaged_too_and_what_was_rejected(
    versions: Versions, paths: StatePaths
) -> None:
    real(paths, versions)
    real(paths, versions, status="rejected")
    real(paths, versions, FLIPPED)
    real(paths, versions)
    for version in ("v0001", "v0003", "v0004"):
        versions.make_live(version, reason="test")
    (versions.directory("v0004") / "card.json").write_bytes(b"{")
    # A start with an unreadable card still comes up far enough to find another.
    again = Versions(paths, versions._store, now=lambda: 0.0)
    assert again.live() is None
    assert again.fall_back(check_intact) is not None
    live = again.live()
    assert live is not None
    assert live.pointer.version == "v0001"


def test_when_no_version_loads_it_says_what_to_do(versions: Versions, paths: StatePaths) -> None:
    assert versions.fall_back(check_intact) is None
    real(paths, versions, FLIPPED)
    versions.make_live("v0001", reason="test")
    with pytest.raises(VersionError, match=r"no other version does; delete .*live\.json"):
        versions.fall_back(check_intact)


def test_a_version_that_proved_bad_is_not_what_a_rollback_leads_to(
    versions: Versions, paths: StatePaths
) -> None:
    adopt(versions, paths)
    versions.adopt(candidate(paths), status="candidate", round_id=None, changes={"parent": "v0001"})
    adopt(versions, paths)
    for version in ("v0001", "v0002", "v0003"):
        versions.make_live(version, reason="test")
    assert versions.make_live("v0002", reason="back", away_from="rolled_back").previous == "v0001"


def test_a_card_can_be_added_to(versions: Versions, paths: StatePaths, store: Store) -> None:
    adopt(versions, paths)
    versions.make_live("v0001", reason="test")
    versions.annotate("v0001", {"probation": {"outcome": "passed"}})
    assert versions.card("v0001")["probation"] == {"outcome": "passed"}
    assert versions.card("v0001")["macs"] == 5
    live = versions.live()
    assert live is not None
    assert live.card["probation"] == {"outcome": "passed"}
    (row,) = store.submit(lambda db: list(db["versions"].rows)).result()
    assert json.loads(row["card"])["probation"] == {"outcome": "passed"}


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("pointed", [False, True])
def test_a_rollback_that_a_kill_cuts_short_leaves_no_version_that_seems_good(
    versions: Versions, paths: StatePaths, store: Store, monkeypatch: pytest.MonkeyPatch, pointed: bool
) -> None:
    for _ in range(2):
        versions.make_live(adopt(versions, paths), reason="better")

    def killed(path: Path, data: bytes) -> None:
        if pointed:
            write_durably(path, data)
        raise Killed

    monkeypatch.setattr("dance_ondevice.daemon.versions.versions.write_durably", killed)
    with pytest.raises(Killed):
        versions.make_live("v0001", reason="v0002 did not hold", away_from="rolled_back")
    store.submit(lambda db: restore_versions(db, paths)).result()
    rows = store.submit(lambda db: list(db.query("select status from versions order by version")))
    found = [row["status"] for row in rows.result()]
    assert found == (["live", "rolled_back"] if pointed else ["retired", "live"])


@pytest.mark.parametrize("spelling", ["v0002/", "./v0002", "v0001/../v0002", "", ".", "../models/v0002"])
def test_a_version_is_a_name_from_the_list_and_nothing_else(
    versions: Versions, paths: StatePaths, spelling: str
) -> None:
    adopt(versions, paths)
    versions.make_live("v0001", reason="first")
    adopt(versions, paths)
    for name in (spelling, str(versions.directory("v0002"))):
        with pytest.raises(VersionError, match=r"no readable version .*known versions: v0001, v0002"):
            versions.make_live(name, reason="by hand")
    assert versions.pointer() == Pointer("v0001", None, "v0001")


def test_a_pointer_that_an_earlier_release_wrote_with_a_slash_is_that_version(
    versions: Versions, paths: StatePaths
) -> None:
    for _ in range(2):
        versions.make_live(adopt(versions, paths), reason="better")
    paths.live_file.write_text('{"version": "v0002/", "previous": "./v0001", "frozen": "v0001/"}')
    assert versions.pointer() == Pointer("v0002", "v0001", "v0001")


def test_a_pointer_to_a_folder_elsewhere_is_no_version(versions: Versions, paths: StatePaths) -> None:
    version = real(paths, versions)
    versions.make_live(version, reason="first")
    elsewhere = paths.root.parent / "elsewhere"
    shutil.copytree(versions.directory(version), elsewhere)
    paths.live_file.write_text(json.dumps({"version": str(elsewhere), "previous": "v0001"}))
    assert "v0001 is live in its place" in str(versions.fall_back(check_intact))
    assert versions.names() == ["v0001"]


def test_two_versions_are_never_live(versions: Versions, paths: StatePaths, store: Store) -> None:
    versions.make_live(adopt(versions, paths), reason="first")
    paths.live_file.unlink()
    adopt(versions, paths)
    versions.make_live(adopt(versions, paths), reason="once more")
    rows = store.submit(lambda db: list(db.query("select version, status from versions order by version")))
    assert [row["status"] for row in rows.result()] == ["retired", "candidate", "live"]
