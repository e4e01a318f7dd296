from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stored

from dance_ondevice.daemon.store import label_source, samples
from dance_ondevice.daemon.store.reconcile import reconcile
from dance_ondevice.daemon.store.samples import LabelMismatch, NewSample, image_digest
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.images import codec as images


def add_label(paths: StatePaths, sample: NewSample, width: int, height: int) -> None:
    """Bring a label of a size of its own for a stored sample."""
    png = stored.label_png(width, height)
    stored.with_store(paths, lambda store: store.add_label(sample.id, png, [1, 2], "import"))


def test_a_first_start_makes_an_index(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path / "new")
    report = reconcile(paths)
    assert (report.index, report.fault, report.history_lost, report.moved_aside) == ("created", "", False, ())
    assert reconcile(paths).index == "sound"


def test_a_sound_state_is_left_as_it_is(paths: StatePaths) -> None:
    stored.keep(paths, [stored.new_sample(1), stored.new_sample(2, label=[1])])
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
    stored.keep(paths, [stored.new_sample(1), stored.new_sample(2, label=[1])])
    before = stored.totals(paths)
    stored.execute(paths, "UPDATE sample_totals SET labelled = 7, unlabelled = 7, bytes = 7")
    reconcile(paths)
    assert stored.totals(paths) == before == (1, 1, stored.total_bytes(paths))


def test_half_written_files_of_ours_go(paths: StatePaths) -> None:
    sample = stored.new_sample(1)
    stored.keep(paths, [sample])
    image = stored.image_of(paths, sample)
    strays = [
        image.with_name(f".{sample.id}.png.tmp"),
        image.with_name(f".{sample.id}.jpg.tmp"),
        image.with_name(f".{sample.id}.label.png.tmp"),
        paths.models / ".live.json.0123abcd.tmp",
        paths.root / ".daemon.json.0123abcd.tmp",
        paths.models / "v0001" / ".conditions.safetensors.0123abcd.tmp",
        paths.rounds / "r1" / ".job.json.0123abcd.tmp",
        # The same of the trainer and of the graphs, some of them in the form of earlier versions.
        image.with_name(f".{sample.id}.png.0123abcd.tmp"),
        paths.models / "v0001" / ".engine-0123.onnx.4711.part",
        paths.models / "v0001" / ".engine-0123.onnx.0123abcd.tmp",
        paths.rounds / "r1" / "state" / "stage-0" / ".model.safetensors.4711.part",
        paths.root / "teaching" / ".job.json.0123abcd.tmp",
    ]
    others = [image.with_name("mine.tmp"), image.with_name(".notes.png.tmp"), paths.root / ".other.tmp"]
    for path in strays + others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    report = reconcile(paths)
    assert report.strays == len(strays)
    assert not any(path.exists() for path in strays)
    assert all(path.exists() for path in others)


def test_a_row_without_its_image_goes(paths: StatePaths) -> None:
    kept, gone = stored.new_sample(1), stored.new_sample(2, label=[1])
    stored.keep(paths, [kept, gone])
    stored.image_of(paths, gone).unlink()
    report = reconcile(paths)
    assert (report.removed, report.samples, report.unknown) == (1, 1, 1)
    assert list(stored.rows(paths)) == [kept.id]
    assert stored.totals(paths) == (0, 1, len(kept.data))


def test_images_of_a_disk_that_was_away_come_back_as_they_were(
    paths: StatePaths, caplog: pytest.LogCaptureFixture
) -> None:
    plain, labelled, unlabelled = (stored.new_sample(n, label=[1] if n > 1 else None) for n in (1, 2, 3))
    other = stored.new_sample(4)
    stored.keep(paths, [plain, labelled, unlabelled, other])
    before = stored.rows(paths)
    disk = paths.samples.rename(paths.root / "disk")
    report = reconcile(paths)
    assert (report.removed, report.samples, stored.totals(paths)) == (4, 0, (0, 0, 0))
    assert "mount it" in caplog.text
    stored.keep(paths, [stored.new_sample(9)])  # the board goes on meanwhile
    paths.samples.rename(paths.root / "meanwhile")
    disk.rename(paths.samples)
    stored.image_of(paths, unlabelled).with_name(f"{unlabelled.id}.label.png").unlink()
    stored.image_of(paths, other).write_bytes(stored.png(16, 12, seed=77))
    report = reconcile(paths)
    assert (report.returned, report.adopted, report.removed, report.labels_detached) == (3, 1, 1, 1)
    after = stored.rows(paths)
    assert [after[each.id] for each in (plain, labelled)] == [before[each.id] for each in (plain, labelled)]
    assert after[unlabelled.id]["label_path"] is None
    assert after[other.id]["origin"] == "rebuilt"
    assert stored.totals(paths)[2] == stored.total_bytes(paths)
    assert reconcile(paths).returned == 0


def test_an_image_linked_elsewhere_keeps_its_row(paths: StatePaths, tmp_path: Path) -> None:
    sample = stored.new_sample(1, score=0.7)
    stored.keep(paths, [sample])
    image = stored.image_of(paths, sample)
    image.rename(tmp_path / "elsewhere.png")
    image.symlink_to(tmp_path / "elsewhere.png")
    assert reconcile(paths).removed == 0
    assert stored.rows(paths)[sample.id]["score"] == 0.7


@pytest.mark.parametrize("label", [None, [0, 7]])
def test_an_adopted_image_is_known_when_its_frame_is_sent_again(
    paths: StatePaths, label: list[int] | None
) -> None:
    smaller = {"data": stored.png(8, 6), "width": 8, "height": 6, "scale": 0.5}
    sample = stored.new_sample(5, label=label, received_digest=image_digest(b"as it came"), **smaller)
    stored.keep(paths, [sample])
    # As if the power had failed between the files and their rows: the sender has no answer.
    stored.execute(paths, "DELETE FROM samples")
    reconcile(paths)
    with stored.opened(paths) as store:
        assert store.add_sample(sample).result(stored.WAIT).duplicate
    assert list(stored.rows(paths)) == [sample.id]


def test_an_image_without_a_row_is_adopted(paths: StatePaths) -> None:
    sample = stored.new_sample(5, camera="a-1.b-2", label=[0, 7])
    stored.keep(paths, [sample])
    stored.execute(paths, "DELETE FROM samples")
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
    assert stored.totals(paths) == (1, 0, stored.total_bytes(paths))
    assert reconcile(paths).adopted == 0


def test_an_adopted_image_is_still_known_when_it_is_sent_again(paths: StatePaths) -> None:
    sample = stored.new_sample(1, at=1760000000.1234567)
    stored.keep(paths, [sample])
    stored.execute(paths, "DELETE FROM samples")
    reconcile(paths)
    stored.keep(paths, [sample])
    assert len(stored.rows(paths)) == 1


def test_a_large_image_is_scored_at_a_fraction_of_its_size(paths: StatePaths) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    stored.keep(
        paths, [stored.new_sample(1, data=images.encode_jpeg(grey), format="jpg", width=640, height=480)]
    )
    stored.execute(paths, "DELETE FROM samples")
    shapes: list[tuple[int, ...]] = []

    def score(grey: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
        shapes.append(grey.shape)
        return 0.5

    reconcile(paths, score=score)
    assert shapes == [(240, 320)]


def test_the_native_size_of_a_scaled_sample_comes_from_its_label(paths: StatePaths) -> None:
    sample = stored.new_sample(1, native_width=33, native_height=25, scale=0.5)
    stored.keep(paths, [sample])
    add_label(paths, sample, 33, 25)
    stored.execute(paths, "DELETE FROM samples")
    reconcile(paths)
    row = stored.rows(paths)[sample.id]
    assert (row["native_width"], row["native_height"], row["label_source"]) == (33, 25, "file")
    assert row["scale"] == pytest.approx(16 / 33)


def test_an_adopted_sample_takes_a_label_of_any_size_it_may_be_a_copy_of(paths: StatePaths) -> None:
    sample = stored.new_sample(1, native_width=32, native_height=24, scale=0.5)
    stored.keep(paths, [sample])
    stored.execute(paths, "DELETE FROM samples")
    reconcile(paths)
    for width, height in ((8, 6), (32, 32)):
        with pytest.raises(LabelMismatch, match=f"{width}x{height} and the stored image 16x12"):
            add_label(paths, sample, width, height)
    add_label(paths, sample, 32, 24)
    row = stored.rows(paths)[sample.id]
    assert (row["native_width"], row["native_height"], row["scale"]) == (32, 24, 0.5)


def test_labels_follow_their_images(paths: StatePaths) -> None:
    labelled, bare = stored.new_sample(1, label=[1, 2]), stored.new_sample(2)
    stored.keep(paths, [labelled, bare])
    label = stored.image_of(paths, labelled).with_name(f"{labelled.id}.label.png")
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
    assert stored.totals(paths) == (1, 1, stored.total_bytes(paths))


def test_a_label_replaced_behind_the_index_is_read_again(paths: StatePaths) -> None:
    sample = stored.new_sample(1, label=[1])
    stored.keep(paths, [sample])
    label = stored.image_of(paths, sample).with_name(f"{sample.id}.label.png")
    label.write_bytes(stored.label_png(16, 12, [3, 4, 5, 6, 7]))
    assert label.stat().st_size != len(sample.label or b"")
    reconcile(paths)
    row = stored.rows(paths)[sample.id]
    assert (row["classes"], row["label_source"]) == ("[3, 4, 5, 6, 7]", "sender")
    assert row["bytes"] == stored.total_bytes(paths)


@pytest.mark.parametrize("damage", [b"", b"junk", stored.label_png(4, 4), stored.png(16, 12)])
def test_a_damaged_label_is_left_aside_and_its_image_kept(paths: StatePaths, damage: bytes) -> None:
    sample = stored.new_sample(1, label=[1])
    stored.keep(paths, [sample])
    label = stored.image_of(paths, sample).with_name(f"{sample.id}.label.png")
    label.write_bytes(damage)
    stored.execute(paths, "DELETE FROM samples")
    report = reconcile(paths)
    assert (report.adopted, report.unreadable) == (1, 1)
    assert stored.rows(paths)[sample.id]["label_path"] is None
    assert label.read_bytes() == damage


@pytest.mark.parametrize("damage", [b"", b"junk", stored.png(16, 12)[:-20]])
def test_a_damaged_image_is_neither_adopted_nor_deleted(paths: StatePaths, damage: bytes) -> None:
    sample = stored.new_sample(1)
    stored.keep(paths, [sample])
    stored.image_of(paths, sample).write_bytes(damage)
    stored.execute(paths, "DELETE FROM samples")
    for score in (None, lambda grey: 0.5):
        report = reconcile(paths, score=score)
        assert (report.adopted, report.unreadable, report.samples) == (0, 1, 0)
    assert stored.image_of(paths, sample).read_bytes() == damage


def test_unknown_files_are_counted_named_and_never_touched(
    paths: StatePaths, caplog: pytest.LogCaptureFixture
) -> None:
    sample = stored.new_sample(1)
    stored.keep(paths, [sample])
    folder = stored.image_of(paths, sample).parent
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


def test_the_report_is_one_line_of_fields(paths: StatePaths) -> None:
    stored.keep(paths, [stored.new_sample(1)])
    paths.database.unlink()
    text = str(reconcile(paths))
    assert text.startswith("index=rebuilt fault='missing' moved_aside= history_lost=True samples=1 adopted=1")
    assert "\n" not in text


def test_a_label_file_that_a_crash_left_without_its_row_says_who_made_it(paths: StatePaths) -> None:
    frames = [stored.new_sample(1), stored.new_sample(2)]
    stored.keep(paths, frames)
    by_model = label_source.stamp(stored.label_png(16, 12, [6]), "teacher")
    by_person = stored.label_png(16, 12, [1, 2, 3])
    stored.with_store(paths, lambda store: store.add_label(frames[1].id, by_model, [6], "teacher"))
    for frame, png in zip(frames, (by_model, by_person), strict=True):
        samples.label_path(stored.image_of(paths, frame)).write_bytes(png)
    reconcile(paths)
    rows = stored.rows(paths)
    assert [rows[frame.id]["label_source"] for frame in frames] == ["teacher", "file"]
