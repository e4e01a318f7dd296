"""An index that is missing, broken or interrupted is made anew: from files, jobs, cards and its own books."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stored
from ledger_entries import spent_since

from dance_ondevice.daemon.energy import ledger
from dance_ondevice.daemon.store import label_source
from dance_ondevice.daemon.store import reconcile as module
from dance_ondevice.daemon.store.reconcile import rebuild_index, reconcile
from dance_ondevice.daemon.store.schema import SchemaTooNew
from dance_ondevice.daemon.store.service import open_reader
from dance_ondevice.daemon.system.state import StatePaths


def write_job(paths: StatePaths, name: str, **roles: Sequence[str]) -> None:
    folder = paths.rounds / name
    folder.mkdir(parents=True)
    job = {role: [{"id": identifier, "image": "x"} for identifier in ids] for role, ids in roles.items()}
    (folder / "job.json").write_text(json.dumps({"round": name, **job}))


def test_splits_come_back_from_the_rounds_jobs(paths: StatePaths) -> None:
    samples = [stored.new_sample(seq, label=[1]) for seq in range(5)]
    stored.keep(paths, samples)
    train, often, gate, both, unused = (sample.id for sample in samples)
    write_job(paths, "r1", train=[train, often], rehearsal=[], gate=[gate, both])
    write_job(paths, "r2", train=[], rehearsal=[often, both], gate=[gate])
    for name, content in (("r3", "{"), ("r4", "[1]"), ("r5", '{"train": 3, "gate": [4, {"id": 5}]}')):
        (paths.rounds / name).mkdir()
        (paths.rounds / name / "job.json").write_text(content)
    report = rebuild_index(paths)
    assert (report.index, report.adopted) == ("rebuilt", 5)
    found = {key: (row["split"], row["rounds_used"]) for key, row in stored.rows(paths).items()}
    assert found == {
        train: ("train", 1),
        often: ("train", 2),
        gate: ("gate", 0),
        both: ("train", 1),  # once learnt from, never held out again
        unused: ("train", 0),
    }


def garble(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def garble_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : len(data) // 2] = np.random.default_rng(0).bytes(len(data) // 2 - 4096)
    path.write_bytes(bytes(data))


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name)")
    connection.close()


def drop_table(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE energy")
    connection.close()


BREAKAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(b"SQLite format 3\0"),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2 + 100),
    "garbage": garble,
    "middle": garble_the_middle,
    "text": lambda path: path.write_text("hello\n" * 1000),
    "foreign": foreign,
    "incomplete": drop_table,
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_index_is_moved_aside_and_rebuilt(
    paths: StatePaths, breakage: str, caplog: pytest.LogCaptureFixture
) -> None:
    samples = [stored.new_sample(seq, label=[1] if seq % 2 else None) for seq in range(20)]
    stored.keep(paths, samples)
    files = stored.files(paths)
    BREAKAGES[breakage](paths.database)
    left = paths.database.read_bytes() if paths.database.exists() else None
    with caplog.at_level(logging.ERROR):
        report = reconcile(paths)
    assert (report.index, report.adopted, report.samples) == ("rebuilt", 20, 20)
    assert report.fault
    assert "index rebuilt from files" in caplog.text
    assert set(stored.rows(paths)) == {sample.id for sample in samples}
    assert stored.files(paths) == files
    aside = paths.root / "dance.db.broken-1"
    assert (aside.read_bytes() if aside.exists() else None) == left
    assert report.moved_aside[:1] == ((aside,) if left is not None else ())
    assert report.history_lost or breakage in ("middle", "incomplete")
    stored.keep(paths, [stored.new_sample(99)])
    assert reconcile(paths).index == "sound"


def test_wal_files_go_with_their_database(paths: StatePaths) -> None:
    stored.keep(paths, [stored.new_sample(1)])
    garble(paths.database)
    for suffix in ("-wal", "-shm"):
        paths.database.with_name(f"dance.db{suffix}").write_bytes(b"old")
    (paths.root / "dance.db.broken-1").write_bytes(b"an earlier one")
    report = reconcile(paths)
    names = [path.name for path in report.moved_aside]
    assert names == ["dance.db.broken-2", "dance.db.broken-2-wal", "dance.db.broken-2-shm"]
    paths.database.unlink()
    paths.database.with_name("dance.db-wal").write_bytes(b"of a database that is gone")
    assert [path.name for path in reconcile(paths).moved_aside] == ["dance.db.broken-3-wal"]
    assert (paths.root / "dance.db.broken-1").read_bytes() == b"an earlier one"
    assert len(stored.rows(paths)) == 1


def test_the_books_are_carried_over_where_they_can_be_read(paths: StatePaths) -> None:
    def write(db: Any) -> None:
        ledger.reserve(db, "r1", 100.0, "boot", 1.0, 2.0)
        ledger.add_energy(db, "2026-01-01", "training", "rapl", "counter", 3.0)
        ledger.save_budget(db, 42.0, "boot", 1.0, 2.0)
        db.table("rounds").insert({"id": "r1", "started_at": 1.0, "outcome": "promoted"})

    stored.keep(paths, [stored.new_sample(1)])
    stored.with_store(paths, lambda store: store.submit(write))
    report = rebuild_index(paths)
    assert (report.index, report.adopted, report.history_lost) == ("rebuilt", 1, False)
    db = open_reader(paths)
    assert spent_since(db, 0.0) == 100.0
    saved = ledger.load_budget(db, "boot", 1.0, 2.0, 10.0)
    assert saved == ledger.SavedBudget(balance_joules=42.0, elapsed_seconds=0.0)
    assert [row["outcome"] for row in db.table("rounds").rows] == ["promoted"]
    assert db.table("energy").count == 1
    db.close()


def test_a_broken_index_without_any_sample_still_says_so(paths: StatePaths) -> None:
    paths.database.write_text("junk" * 100)
    report = reconcile(paths)
    assert (report.index, report.samples, report.history_lost) == ("rebuilt", 0, True)


def test_what_is_not_broken_is_not_moved(paths: StatePaths) -> None:
    stored.keep(paths, [stored.new_sample(1)])
    stored.execute(paths, "INSERT INTO _sqlite_migrations VALUES (99, 'dance_ondevice', '9999_later', '')")
    with pytest.raises(SchemaTooNew):
        reconcile(paths)
    assert not list(paths.root.glob("*.broken*"))
    shutil.copy(paths.database, paths.root / "copy")
    paths.database.unlink()
    paths.database.mkdir()
    with pytest.raises(sqlite3.OperationalError):
        reconcile(paths)
    assert paths.database.is_dir()


def test_an_interrupted_rebuild_goes_on(paths: StatePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    stored.keep(paths, [stored.new_sample(seq) for seq in range(10)])
    paths.database.unlink()
    monkeypatch.setattr(module, "_BATCH", 4)
    progress: list[None] = []

    def interrupt() -> None:
        progress.append(None)
        if len(progress) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconcile(paths, on_progress=interrupt)
    report = reconcile(paths)
    assert (report.index, report.adopted, report.samples) == ("sound", 2, 10)


def write_card(paths: StatePaths, version: str, **card: object) -> None:
    folder = paths.models / version
    folder.mkdir(parents=True)
    content = {"version": version, "architecture": "fastscnn", "macs": 100, "parameters": 10, **card}
    (folder / "card.json").write_text(json.dumps(content))


def versions(paths: StatePaths) -> dict[str, dict[str, Any]]:
    return stored.rows(paths, "versions", "version")


def test_versions_come_back_from_their_cards(paths: StatePaths) -> None:
    write_card(paths, "v0001")
    write_card(
        paths, "v0002", parent="v0001", created_at=5.0, gate={"outcome": "promoted", "miou_after": 0.4}
    )
    write_card(paths, "v0003", parent="v0002", gate={"outcome": "rejected", "miou_after": 0.3}, macs=[1])
    own = {"architecture": "", "factory": "tiny_unet:build"}
    write_card(paths, "v0004", parent="v0002", gate={"outcome": "rejected", "miou_after": 0.2}, **own)
    write_card(paths, ".scratch")
    (paths.models / "junk").mkdir()
    (paths.models / "junk" / "card.json").write_bytes(b"\xff")
    paths.live_file.write_text(json.dumps({"version": "v0002", "previous": "v0001"}))
    report = reconcile(paths)
    assert report.index == "rebuilt"
    found = versions(paths)
    statuses = {name: row["status"] for name, row in found.items()}
    assert statuses == {"v0001": "retired", "v0002": "live", "v0004": "rejected"}
    assert (found["v0002"]["parent"], found["v0002"]["miou_gate"], found["v0002"]["created_at"]) == (
        "v0001",
        0.4,
        5.0,
    )
    assert json.loads(found["v0002"]["card"])["architecture"] == "fastscnn"
    assert found["v0004"]["architecture"] == "tiny_unet:build"


def test_the_live_file_alone_says_which_version_is_live(paths: StatePaths) -> None:
    for version in ("v1", "v2"):
        write_card(paths, version)
    paths.live_file.write_text('{"version": "v1"}')
    reconcile(paths)
    paths.live_file.write_text('{"version": "v2"}')
    write_card(paths, "v3", gate={"outcome": "rejected"})
    shutil.rmtree(paths.models / "v1")
    assert reconcile(paths).versions == 1
    assert {name: row["status"] for name, row in versions(paths).items()} == {"v2": "live", "v3": "rejected"}
    paths.live_file.write_text("{")
    reconcile(paths)
    assert versions(paths)["v2"]["status"] == "live"


def test_a_rebuilt_index_knows_a_models_label_and_how_frames_look(paths: StatePaths) -> None:
    frames = [stored.new_sample(1), stored.new_sample(2, label=[1])]
    stored.keep(paths, frames)
    taught = label_source.stamp(stored.label_png(16, 12, [6]), "teacher")
    stored.with_store(
        paths, lambda store: store.add_label(frames[0].id, taught, [6], "teacher", confidence=0.9)
    )
    paths.database.unlink()
    reconcile(paths)
    rows = stored.rows(paths)
    assert [rows[frame.id]["label_source"] for frame in frames] == ["teacher", "file"]
    assert all(rows[frame.id]["signature"] for frame in frames)
