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

from dance_ondevice import images
from dance_ondevice.daemon import label_source, ledger, samples
from dance_ondevice.daemon import reconcile as module
from dance_ondevice.daemon.reconcile import rebuild_index, reconcile
from dance_ondevice.daemon.schema import SchemaTooNew
from dance_ondevice.daemon.state import StatePaths
from dance_ondevice.daemon.store import LabelMismatch, NewSample, Store, open_reader

WAIT = 30


def keep(paths: StatePaths, samples: Sequence[NewSample]) -> None:
    with_store(paths, lambda store: [store.add_sample(sample) for sample in samples])


def with_store(paths: StatePaths, act: Callable[[Store], Any]) -> None:
    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    store.start()
    futures = act(store)
    assert store.stop(WAIT)
    for future in futures if isinstance(futures, list) else [futures]:
        future.result(0)


def execute(paths: StatePaths, sql: str) -> None:
    with_store(paths, lambda store: store.submit(lambda db: db.execute(sql)))


def totals(paths: StatePaths) -> tuple[int, ...]:
    db = open_reader(paths)
    try:
        return tuple(db.execute("SELECT labelled, unlabelled, bytes FROM sample_totals").fetchone())
    finally:
        db.close()


def image_of(paths: StatePaths, sample: NewSample) -> Path:
    return paths.sample_dir(sample.camera, sample.captured_at) / f"{sample.id}.{sample.format}"


def test_a_first_start_makes_an_index(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path / "new")
    report = reconcile(paths)
    assert (report.index, report.fault, report.history_lost, report.moved_aside) == ("created", "", False, ())
    assert reconcile(paths).index == "sound"


def test_a_sound_state_is_left_as_it_is(paths: StatePaths) -> None:
    keep(paths, [stored.new_sample(1), stored.new_sample(2, label=[1])])
    before, files = stored.rows(paths), stored.files(paths)
    report = reconcile(paths)
    assert (report.index, report.samples) == ("sound", 2)
    assert (report.adopted, report.removed, report.unknown, report.strays, report.unreadable) == (
        0,
        0,
        0,
        0,
        0,
    )
    assert stored.rows(paths) == before
    assert stored.files(paths) == files


def test_totals_that_drifted_are_counted_anew(paths: StatePaths) -> None:
    keep(paths, [stored.new_sample(1), stored.new_sample(2, label=[1])])
    before = totals(paths)
    execute(paths, "UPDATE sample_totals SET labelled = 7, unlabelled = 7, bytes = 7")
    reconcile(paths)
    assert totals(paths) == before == (1, 1, stored.total_bytes(paths))


def test_half_written_files_of_ours_go(paths: StatePaths) -> None:
    sample = stored.new_sample(1)
    keep(paths, [sample])
    image = image_of(paths, sample)
    strays = [
        image.with_name(f".{sample.id}.png.tmp"),
        image.with_name(f".{sample.id}.jpg.tmp"),
        image.with_name(f".{sample.id}.label.png.tmp"),
        paths.models / ".live.json.0123abcd.tmp",
        paths.root / ".daemon.json.0123abcd.tmp",
    ]
    others = [image.with_name("mine.tmp"), image.with_name(".notes.png.tmp"), paths.root / ".other.tmp"]
    for path in strays + others:
        path.write_bytes(b"half")
    report = reconcile(paths)
    assert report.strays == 5
    assert not any(path.exists() for path in strays)
    assert all(path.exists() for path in others)


def test_a_row_without_its_image_goes(paths: StatePaths) -> None:
    kept, gone = stored.new_sample(1), stored.new_sample(2, label=[1])
    keep(paths, [kept, gone])
    image_of(paths, gone).unlink()
    report = reconcile(paths)
    assert (report.removed, report.samples, report.unknown) == (1, 1, 1)
    assert list(stored.rows(paths)) == [kept.id]
    assert totals(paths) == (0, 1, len(kept.data))


def test_an_image_linked_elsewhere_keeps_its_row(paths: StatePaths, tmp_path: Path) -> None:
    sample = stored.new_sample(1, score=0.7)
    keep(paths, [sample])
    image = image_of(paths, sample)
    image.rename(tmp_path / "elsewhere.png")
    image.symlink_to(tmp_path / "elsewhere.png")
    assert reconcile(paths).removed == 0
    assert stored.rows(paths)[sample.id]["score"] == 0.7


def test_an_image_without_a_row_is_adopted(paths: StatePaths) -> None:
    sample = stored.new_sample(5, camera="a-1.b-2", label=[0, 7])
    keep(paths, [sample])
    execute(paths, "DELETE FROM samples")
    seen: list[tuple[int, ...]] = []

    def score(grey: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
        seen.append(grey.shape)
        return 0.25

    report = reconcile(paths, score=score)
    assert (report.index, report.adopted, report.samples) == ("sound", 1, 1)
    assert seen == [(12, 16)]
    row = stored.rows(paths)[sample.id]
    expected = {
        "camera": "a-1.b-2",
        "seq": 5,
        "captured_at": sample.captured_at,
        "format": "png",
        "width": 16,
        "height": 12,
        "native_width": 16,
        "native_height": 12,
        "score": 0.25,
        "scale": 1.0,
        "weight": 1.0,
        "classes": "[0, 7]",
        "split": "train",
        "rounds_used": 0,
        "origin": "rebuilt",
        "bytes": stored.total_bytes(paths),
    }
    assert {name: row[name] for name in expected} == expected
    assert totals(paths) == (1, 0, stored.total_bytes(paths))
    assert reconcile(paths).adopted == 0


def test_an_adopted_image_is_still_known_when_it_is_sent_again(paths: StatePaths) -> None:
    sample = stored.new_sample(1, at=1760000000.1234567)
    keep(paths, [sample])
    execute(paths, "DELETE FROM samples")
    reconcile(paths)
    keep(paths, [sample])
    assert len(stored.rows(paths)) == 1


def test_a_large_image_is_scored_at_a_fraction_of_its_size(paths: StatePaths) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    keep(paths, [stored.new_sample(1, data=images.encode_jpeg(grey), format="jpg", width=640, height=480)])
    execute(paths, "DELETE FROM samples")
    shapes: list[tuple[int, ...]] = []
    reconcile(paths, score=lambda found: shapes.append(found.shape) or 0.5)  # type: ignore[func-returns-value]
    assert shapes == [(240, 320)]


def test_the_native_size_of_a_scaled_sample_comes_from_its_label(paths: StatePaths) -> None:
    sample = stored.new_sample(1, native_width=33, native_height=25, scale=0.5)
    keep(paths, [sample])
    with_store(paths, lambda store: store.add_label(sample.id, stored.label_png(33, 25), [1, 2], "import"))
    execute(paths, "DELETE FROM samples")
    reconcile(paths)
    row = stored.rows(paths)[sample.id]
    assert (row["native_width"], row["native_height"], row["label_source"]) == (33, 25, "file")
    assert row["scale"] == pytest.approx(16 / 33)


def test_an_adopted_sample_takes_a_label_of_any_size_it_may_be_a_copy_of(paths: StatePaths) -> None:
    sample = stored.new_sample(1, native_width=32, native_height=24, scale=0.5)
    keep(paths, [sample])
    execute(paths, "DELETE FROM samples")
    reconcile(paths)
    for width, height in ((8, 6), (32, 32)):
        with pytest.raises(LabelMismatch, match=f"{width}x{height} and the stored image 16x12"):
            with_store(
                paths,
                lambda store, w=width, h=height: store.add_label(  # type: ignore[misc]
                    sample.id, stored.label_png(w, h), [1, 2], "import"
                ),
            )
    with_store(paths, lambda store: store.add_label(sample.id, stored.label_png(32, 24), [1, 2], "import"))
    row = stored.rows(paths)[sample.id]
    assert (row["native_width"], row["native_height"], row["scale"]) == (32, 24, 0.5)


def test_labels_follow_their_images(paths: StatePaths) -> None:
    labelled, bare = stored.new_sample(1, label=[1, 2]), stored.new_sample(2)
    keep(paths, [labelled, bare])
    label = image_of(paths, labelled).with_name(f"{labelled.id}.label.png")
    label.rename(label.with_name(f"{bare.id}.label.png"))
    report = reconcile(paths)
    assert (report.labels_attached, report.labels_detached) == (1, 1)
    rows = stored.rows(paths)
    assert [rows[labelled.id][name] for name in ("label_path", "label_source", "classes")] == [
        None,
        None,
        None,
    ]
    assert (rows[bare.id]["classes"], rows[bare.id]["label_source"]) == ("[1, 2]", "file")
    assert totals(paths) == (1, 1, stored.total_bytes(paths))


def test_a_label_replaced_behind_the_index_is_read_again(paths: StatePaths) -> None:
    sample = stored.new_sample(1, label=[1])
    keep(paths, [sample])
    label = image_of(paths, sample).with_name(f"{sample.id}.label.png")
    label.write_bytes(stored.label_png(16, 12, [3, 4, 5, 6, 7]))
    assert label.stat().st_size != len(sample.label or b"")
    reconcile(paths)
    row = stored.rows(paths)[sample.id]
    assert (row["classes"], row["label_source"]) == ("[3, 4, 5, 6, 7]", "sender")
    assert row["bytes"] == stored.total_bytes(paths)


@pytest.mark.parametrize("damage", [b"", b"junk", stored.label_png(4, 4), stored.png(16, 12)])
def test_a_damaged_label_is_left_aside_and_its_image_kept(paths: StatePaths, damage: bytes) -> None:
    sample = stored.new_sample(1, label=[1])
    keep(paths, [sample])
    label = image_of(paths, sample).with_name(f"{sample.id}.label.png")
    label.write_bytes(damage)
    execute(paths, "DELETE FROM samples")
    report = reconcile(paths)
    assert (report.adopted, report.unreadable) == (1, 1)
    assert stored.rows(paths)[sample.id]["label_path"] is None
    assert label.read_bytes() == damage


@pytest.mark.parametrize("damage", [b"", b"junk", stored.png(16, 12)[:-20]])
def test_a_damaged_image_is_neither_adopted_nor_deleted(paths: StatePaths, damage: bytes) -> None:
    sample = stored.new_sample(1)
    keep(paths, [sample])
    image_of(paths, sample).write_bytes(damage)
    execute(paths, "DELETE FROM samples")
    for score in (None, lambda grey: 0.5):
        report = reconcile(paths, score=score)
        assert (report.adopted, report.unreadable, report.samples) == (0, 1, 0)
    assert image_of(paths, sample).read_bytes() == damage


def test_unknown_files_are_counted_named_and_never_touched(
    paths: StatePaths, caplog: pytest.LogCaptureFixture
) -> None:
    sample = stored.new_sample(1)
    keep(paths, [sample])
    folder = image_of(paths, sample).parent
    unknown = [
        paths.samples / "README.txt",
        paths.samples / ".hidden" / "x.png",
        folder.parent / "notes.txt",
        folder.parent / "backup" / f"{sample.id}.png",
        folder / "holiday.jpg",
        folder / f"rear-1-1{'.png'}",
        folder / f"{sample.id}.jpg",  # the same frame in another format
        folder / "front-1-1.label.png",  # a label of nothing
        folder / "deep" / "x.png",
    ]
    for path in unknown:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(stored.png(2, 2))
    (folder / "front-2-2.png").symlink_to(unknown[0])
    with caplog.at_level(logging.WARNING):
        report = reconcile(paths)
    assert (report.unknown, report.adopted, report.samples) == (10, 0, 1)
    assert all(path.read_bytes() == stored.png(2, 2) for path in unknown)
    assert "unknown files left alone count=10 first=samples/.hidden" in caplog.text


def write_job(paths: StatePaths, name: str, **roles: Sequence[str]) -> None:
    folder = paths.rounds / name
    folder.mkdir(parents=True)
    job = {role: [{"id": identifier, "image": "x"} for identifier in ids] for role, ids in roles.items()}
    (folder / "job.json").write_text(json.dumps({"round": name, **job}))


def test_splits_come_back_from_the_rounds_jobs(paths: StatePaths) -> None:
    samples = [stored.new_sample(seq, label=[1]) for seq in range(5)]
    keep(paths, samples)
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
    keep(paths, samples)
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
    keep(paths, [stored.new_sample(99)])
    assert reconcile(paths).index == "sound"


def test_wal_files_go_with_their_database(paths: StatePaths) -> None:
    keep(paths, [stored.new_sample(1)])
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

    keep(paths, [stored.new_sample(1)])
    with_store(paths, lambda store: store.submit(write))
    report = rebuild_index(paths)
    assert (report.index, report.adopted, report.history_lost) == ("rebuilt", 1, False)
    db = open_reader(paths)
    assert ledger.spent_since(db, 0.0) == 100.0
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
    keep(paths, [stored.new_sample(1)])
    execute(paths, "INSERT INTO _sqlite_migrations VALUES (99, 'dance_ondevice', '9999_later', '')")
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
    keep(paths, [stored.new_sample(seq) for seq in range(10)])
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
    db = open_reader(paths)
    try:
        return {row["version"]: row for row in db.query("SELECT * FROM versions")}
    finally:
        db.close()


def test_versions_come_back_from_their_cards(paths: StatePaths) -> None:
    write_card(paths, "v0001")
    write_card(
        paths, "v0002", parent="v0001", created_at=5.0, gate={"outcome": "promoted", "miou_after": 0.4}
    )
    write_card(paths, "v0003", parent="v0002", gate={"outcome": "rejected", "miou_after": 0.3}, macs=[1])
    write_card(paths, "v0004", parent="v0002", gate={"outcome": "rejected", "miou_after": 0.2})
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


def test_the_report_is_one_line_of_fields(paths: StatePaths) -> None:
    keep(paths, [stored.new_sample(1)])
    paths.database.unlink()
    text = str(reconcile(paths))
    assert text.startswith("index=rebuilt fault='missing' moved_aside= history_lost=True samples=1 adopted=1")
    assert "\n" not in text


def test_a_rebuilt_index_knows_a_models_label_and_how_frames_look(paths: StatePaths) -> None:
    frames = [stored.new_sample(1), stored.new_sample(2, label=[1])]
    keep(paths, frames)
    taught = label_source.stamp(stored.label_png(16, 12, [6]), "teacher")
    with_store(paths, lambda store: store.add_label(frames[0].id, taught, [6], "teacher", confidence=0.9))
    paths.database.unlink()
    reconcile(paths)
    rows = stored.rows(paths)
    assert [rows[frame.id]["label_source"] for frame in frames] == ["teacher", "file"]
    assert all(rows[frame.id]["signature"] for frame in frames)


def test_a_label_file_that_a_crash_left_without_its_row_says_who_made_it(paths: StatePaths) -> None:
    frames = [stored.new_sample(1), stored.new_sample(2)]
    keep(paths, frames)
    by_model = label_source.stamp(stored.label_png(16, 12, [6]), "teacher")
    by_person = stored.label_png(16, 12, [1, 2, 3])
    with_store(paths, lambda store: store.add_label(frames[1].id, by_model, [6], "teacher"))
    for frame, png in zip(frames, (by_model, by_person), strict=True):
        samples.label_path(image_of(paths, frame)).write_bytes(png)
    reconcile(paths)
    rows = stored.rows(paths)
    assert [rows[frame.id]["label_source"] for frame in frames] == ["teacher", "file"]
