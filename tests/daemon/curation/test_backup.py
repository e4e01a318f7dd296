"""A state folder backed up under load, and restored onto another folder."""

from __future__ import annotations

import bz2
import io
import json
import os
import tarfile
import threading
from pathlib import Path

import pytest
from stored import files, new_sample, opened, rows, with_store

from dance_ondevice.daemon.curation.backup import BackupError, back_up
from dance_ondevice.daemon.curation.restore import restore
from dance_ondevice.daemon.store.reconcile import reconcile
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StateInUse, StateLock, StatePaths


@pytest.fixture
def made(paths: StatePaths, tmp_path: Path) -> Path:
    """A backup of two samples and a version."""
    with_store(paths, lambda store: [store.add_sample(new_sample(seq, label=(1,))) for seq in range(2)])
    (paths.models / "v0001").mkdir()
    (paths.models / "v0001" / "card.json").write_text("{}")
    (paths.models / "v0001" / "model.safetensors").write_bytes(bytes(1000))
    paths.live_file.write_text('{"version": "v0001"}')
    (paths.rounds / "r1" / "checkpoint").mkdir(parents=True)
    (paths.rounds / "r1" / "checkpoint" / "state").write_bytes(b"no part of it")
    (paths.rounds / "r1" / "job.json").write_text("{}")
    (paths.root / "console.token").write_text("secret")
    (paths.root / "classes.json").write_text('["road", "car"]')
    target = tmp_path / "site.tar"
    back_up(paths, target)
    return target


def test_what_was_acknowledged_before_a_backup_under_load_is_in_it(paths: StatePaths, tmp_path: Path) -> None:
    busy = threading.Event()
    sent: list[str] = []

    def load(store: Store) -> None:
        seq = 30
        while not busy.is_set():
            sent.append(store.add_sample(new_sample(seq, label=(1, 2))).result(30).id)
            if seq % 10 == 0:  # what goes while it is read is left out, and nothing else
                store.remove_samples([new_sample(seq - 5).id]).result(30)
            seq += 1

    with opened(paths) as store:
        before = [store.add_sample(new_sample(seq, label=(1,))).result(30).id for seq in range(20)]
        sender = threading.Thread(target=load, args=(store,))
        sender.start()
        try:
            found = back_up(paths, tmp_path / "site.tar")
        finally:
            busy.set()
            sender.join(30)
    assert found.samples >= 20
    other = StatePaths(tmp_path / "other")
    done = restore(tmp_path / "site.tar", other)
    assert done.files == found.files
    report = reconcile(other)
    assert (report.index, report.adopted, report.strays) == ("sound", 0, 0)
    assert report.removed + report.labels_detached <= found.missing
    restored = rows(other)
    assert set(before) <= set(restored) <= {*before, *sent}
    for identifier in before:
        path, label = restored[identifier]["path"], restored[identifier]["label_path"]
        for name in (path, label):
            assert (other.root / name).read_bytes() == (paths.root / name).read_bytes()
    with opened(other) as store:  # and it can be worked with
        store.add_sample(new_sample(999)).result(30)
    assert rows(other)[new_sample(999).id]["arrival"] > max(row["arrival"] for row in restored.values())


def test_a_backup_into_a_folder_that_is_not_there_names_the_folder(made: Path, paths: StatePaths) -> None:
    with pytest.raises(BackupError, match=rf"there is no folder {made.parent}/usb; make it, or mount"):
        back_up(paths, made.parent / "usb" / "site.tar")


def test_a_pipe_in_the_place_of_an_image_is_missing_from_a_backup(paths: StatePaths, tmp_path: Path) -> None:
    with opened(paths) as store:
        for seq in range(2):
            store.add_sample(new_sample(seq)).result(30)
        image = paths.root / rows(paths)[new_sample(1).id]["path"]
        image.unlink()
        os.mkfifo(image)
        found = back_up(paths, tmp_path / "site.tar")
    assert (found.samples, found.missing) == (2, 1)


def test_a_backup_holds_what_a_state_is_and_no_secrets(made: Path, paths: StatePaths, tmp_path: Path) -> None:
    assert made.stat().st_mode & 0o777 == 0o600
    with tarfile.open(made) as tar:
        names = tar.getnames()
    assert names[0] == "dance.db"
    assert names[-1] == "manifest.json"
    assert set(names[1:-1]) == {
        *files(paths),
        *(
            "models/live.json",
            "models/v0001/card.json",
            "models/v0001/model.safetensors",
            "rounds/r1/job.json",
            "classes.json",
        ),
    }
    other = StatePaths(tmp_path / "other")
    restore(made, other)
    assert files(other) == files(paths)
    assert other.live_file.read_text() == paths.live_file.read_text()
    # Without it, labels of a board without a model would be taken for other classes.
    assert (other.root / "classes.json").read_text() == '["road", "car"]'
    stored = paths.root / files(paths)[0]
    assert (other.root / files(paths)[0]).stat().st_mtime == pytest.approx(stored.stat().st_mtime, abs=1e-3)
    assert not list(other.root.glob(".restore-*"))
    with pytest.raises(BackupError, match="there already"):
        back_up(paths, made)
    with pytest.raises(BackupError, match="not there"):
        back_up(StatePaths(tmp_path / "nothing"), tmp_path / "more.tar")
    assert not (tmp_path / "more.tar").exists()


def test_a_backup_of_a_hidden_state_folder_has_all_of_it(
    made: Path, paths: StatePaths, tmp_path: Path
) -> None:
    (paths.root / "paused").touch()
    (paths.models / "probation.json").write_text("{}")
    hidden = StatePaths(tmp_path / ".dance")
    paths.root.rename(hidden.root)
    back_up(hidden, tmp_path / "hidden.tar")
    with tarfile.open(tmp_path / "hidden.tar") as tar:
        assert {"classes.json", "paused", "models/probation.json"} < set(tar.getnames())


@pytest.mark.parametrize("how", ["cut", "flipped", "no manifest", "outside", "link", "foreign", "newer"])
def test_what_is_no_whole_backup_restores_nothing(made: Path, tmp_path: Path, how: str) -> None:
    bad = tmp_path / "bad.tar"
    data = made.read_bytes()
    if how == "cut":
        bad.write_bytes(data[: len(data) // 2])
    elif how == "flipped":
        at = data.index(b"SQLite format 3") + 4096
        bad.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    else:
        rewrite(made, bad, how)
    other = StatePaths(tmp_path / "other")
    with pytest.raises(BackupError, match=r"bad\.tar"):
        restore(bad, other)
    assert {path.name for path in other.root.iterdir()} == {"lock"}
    assert not (tmp_path / "evil").exists()


def rewrite(made: Path, bad: Path, how: str) -> None:
    with tarfile.open(made) as old, tarfile.open(bad, "w") as new:
        for member in old:
            stream = old.extractfile(member)
            assert stream is not None
            data = stream.read()
            if member.name == "manifest.json":
                if how == "no manifest":
                    continue
                if how == "newer":
                    data = json.dumps({**json.loads(data), "format": 99}).encode()
                    member.size = len(data)
            new.addfile(member, io.BytesIO(data))
        extra = {"outside": "samples/../../evil", "foreign": "lock.d/x", "link": "models/v0001/link"}.get(how)
        if extra:
            info = tarfile.TarInfo(extra)
            if how == "link":
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            new.addfile(info)


def test_a_folder_may_be_named_from_where_one_is(
    made: Path, paths: StatePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    restore(made, StatePaths(Path("other")))
    assert files(StatePaths(tmp_path / "other")) == files(paths)


def test_a_state_is_never_restored_over(made: Path, paths: StatePaths) -> None:
    with pytest.raises(BackupError, match="holds a state already"):
        restore(made, paths)
    with StateLock(paths), pytest.raises(StateInUse):
        restore(made, paths)


@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_a_backup_that_was_packed_again_or_compressed_is_restored(
    made: Path, paths: StatePaths, tmp_path: Path, kind: str
) -> None:
    unpacked, packed, back = tmp_path / "unpacked", tmp_path / f"again.tar.{kind}", tmp_path / "back"
    with tarfile.open(made) as tar:
        tar.extractall(unpacked, filter="data")
    with tarfile.open(packed, f"w:{kind}") as tar:
        tar.add(unpacked, ".")
    restore(packed, StatePaths(back))
    assert set(files(StatePaths(back))) == set(files(paths))
    packed.write_bytes(packed.read_bytes()[:-300])
    with pytest.raises(BackupError, match="no whole backup"):
        restore(packed, StatePaths(tmp_path / "other"))


def test_a_backup_in_several_streams_and_packed_with_its_folder_is_restored(
    made: Path, paths: StatePaths, tmp_path: Path
) -> None:
    unpacked, again = tmp_path / "unpacked", io.BytesIO()
    with tarfile.open(made) as tar:
        tar.extractall(unpacked, filter="data")
    (unpacked / "._dance.db").touch()  # as macOS adds to an archive
    with tarfile.open(fileobj=again, mode="w") as tar:
        tar.add(unpacked, "site")
    data = again.getvalue()
    # As pbzip2 does.
    (tmp_path / "b.tar.bz2").write_bytes(bz2.compress(data[:5000]) + bz2.compress(data[5000:]))
    restore(tmp_path / "b.tar.bz2", StatePaths(tmp_path / "back"))
    assert set(files(StatePaths(tmp_path / "back"))) == set(files(paths))


def test_samples_on_a_disk_that_does_not_look_like_one_are_restored_there(
    made: Path, paths: StatePaths, tmp_path: Path
) -> None:
    back = StatePaths(tmp_path / "back")  # a bind mount of the same disk, as containers have it
    (back.samples / "lost+found").mkdir(parents=True)
    before = back.samples.stat().st_ino
    restore(made, back)
    assert set(files(back)) == set(files(paths))
    assert back.samples.stat().st_ino == before


def test_samples_on_a_disk_of_their_own_are_restored_there(
    made: Path, paths: StatePaths, tmp_path: Path
) -> None:
    back, disk = StatePaths(tmp_path / "back"), tmp_path / "disk"
    (disk / "lost+found").mkdir(parents=True)
    back.root.mkdir()
    back.samples.symlink_to(disk)
    restore(made, back)
    assert back.samples.is_symlink()
    assert set(files(back)) == set(files(paths))
    cameras = {path.name for path in paths.samples.iterdir()}
    assert {path.name for path in disk.iterdir()} == {"lost+found", *cameras}


def test_a_restore_that_cannot_move_its_parts_takes_back_what_it_moved(made: Path, tmp_path: Path) -> None:
    back = StatePaths(tmp_path / "back")
    back.root.mkdir()
    back.samples.symlink_to("nowhere")  # of a disk that is not mounted
    with pytest.raises(OSError):
        restore(made, back)
    assert sorted(path.name for path in back.root.iterdir()) == ["lock", "samples"]
    back.samples.unlink()
    restore(made, back)
