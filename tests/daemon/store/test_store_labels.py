"""Labels in the store: with their frame, later, in another's place, and refused."""

from __future__ import annotations

import json

import pytest
import stored
from sqlite_utils import Database

from dance_ondevice.daemon.rounds.record import close_round
from dance_ondevice.daemon.store.samples import (
    LabelChanged,
    LabelEmpty,
    LabelMismatch,
    LabelProtected,
    NewSample,
    UnknownSample,
    digest,
)
from dance_ondevice.daemon.store.service import Store, StoreSnapshot
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.images import codec as images

WAIT = 30


def test_a_resent_frame_brings_its_label_but_replaces_none(store: Store, paths: StatePaths) -> None:
    sample = stored.new_sample(1)
    store.add_sample(sample).result(WAIT)
    store.add_sample(stored.new_sample(1, label=[4])).result(WAIT)
    assert stored.rows(paths)[sample.id]["classes"] == "[4]"
    store.add_sample(stored.new_sample(1, label=[5])).result(WAIT)
    assert stored.rows(paths)[sample.id]["classes"] == "[4]"
    assert store.snapshot().bytes == stored.total_bytes(paths)


def test_a_label_can_come_later_and_be_replaced(store: Store, paths: StatePaths) -> None:
    sample = stored.new_sample(1, native_width=32, native_height=24, scale=0.5)
    store.add_sample(sample).result(WAIT)
    assert store.snapshot().samples_unlabelled == 1
    for classes, source in (([1, 2, 7], "teacher"), ([4], "teacher"), ([3], "import")):
        png = stored.label_png(32, 24, classes)
        assert store.add_label(sample.id, png, classes, source).result(WAIT) is None
        row = stored.rows(paths)[sample.id]
        assert json.loads(row["classes"]) == classes
        assert row["label_source"] == source
        assert (paths.root / row["label_path"]).read_bytes() == png
        assert (row["native_width"], row["scale"]) == (32, 0.5)
    assert store.snapshot() == StoreSnapshot(
        samples_labelled=1,
        labels_stored=3,
        bytes=stored.total_bytes(paths),
        free_bytes=store.snapshot().free_bytes,
    )


def test_a_sample_whose_label_changes_is_new_to_the_next_round(store: Store, paths: StatePaths) -> None:
    sample = stored.new_sample(1, label=[4])
    store.add_sample(sample).result(WAIT)

    def learnt() -> None:
        store.submit(lambda db: db.execute("UPDATE samples SET rounds_used = 2")).result(WAIT)

    def used() -> int:
        return int(stored.rows(paths)[sample.id]["rounds_used"])

    def bring(class_id: int, name: str | None = None) -> None:
        png = stored.label_png(16, 12, [class_id])
        store.add_label(sample.id, png, [class_id], "import", import_id=name).result(WAIT)

    learnt()
    bring(4)
    assert used() == 2, "the same label once more teaches nothing new"
    bring(5, "a")
    assert used() == 0
    learnt()
    store.restore_label(sample.id).result(WAIT)
    assert used() == 0, "the round has learnt from the label that was taken back"
    other = stored.new_sample(2, label=[4])
    store.add_sample(other).result(WAIT)

    def open_round(db: Database) -> None:
        db["rounds"].insert({"id": "r1", "started_at": 0.0})
        db["round_samples"].insert_all(
            {"round_id": "r1", "sample_id": each.id, "role": "new"} for each in (sample, other)
        )

    store.submit(open_round).result(WAIT)
    bring(6)
    store.submit(lambda db: close_round(db, "r1", {"outcome": "promoted"}, served=True)).result(WAIT)
    assert [stored.rows(paths)[each.id]["rounds_used"] for each in (sample, other)] == [0, 1], (
        "a round that was open may have read the label before"
    )


@pytest.mark.parametrize("source", ["teacher", "self"])
def test_no_model_writes_over_a_label_that_no_model_made(
    store: Store, paths: StatePaths, source: str
) -> None:
    with_frame, later = stored.new_sample(1, label=[1, 2]), stored.new_sample(2)
    store.add_sample(with_frame).result(WAIT)
    store.add_sample(later).result(WAIT)
    # In one group with the label that it must not replace, too.
    first = store.add_label(later.id, stored.label_png(16, 12, [5]), [5], "wire")
    second = store.add_label(later.id, stored.label_png(16, 12, [6]), [6], source, confidence=0.99)
    first.result(WAIT)
    for refused in (second, store.add_label(with_frame.id, stored.label_png(16, 12, [6]), [6], source)):
        with pytest.raises(LabelProtected, match="no model made"):
            refused.result(WAIT)
    rows = stored.rows(paths)
    assert (rows[later.id]["classes"], rows[later.id]["label_source"]) == ("[5]", "wire")
    assert (paths.root / rows[later.id]["label_path"]).read_bytes() == stored.label_png(16, 12, [5])
    assert rows[with_frame.id]["label_source"] == "sender"


def test_a_frame_that_is_sent_again_with_its_label_replaces_a_models_label(
    store: Store, paths: StatePaths
) -> None:
    frame = stored.new_sample(1)
    store.add_sample(frame).result(WAIT)
    png = stored.label_png(16, 12, [6])
    store.add_label(frame.id, png, [6], "teacher", confidence=0.9).result(WAIT)
    assert stored.rows(paths)[frame.id]["label_confidence"] == 0.9
    store.add_sample(stored.new_sample(1, label=[1, 2])).result(WAIT)
    row = stored.rows(paths)[frame.id]
    assert (row["classes"], row["label_source"], row["label_confidence"]) == ("[1, 2]", "sender", None)


def test_a_label_in_the_same_group_as_its_frame(paths: StatePaths) -> None:
    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    sample = stored.new_sample(1)
    futures = [
        store.add_sample(sample),
        store.add_label(sample.id, stored.label_png(16, 12), [1, 2], "import"),
    ]
    store.start()
    for future in futures:
        future.result(WAIT)
    assert store.stop(WAIT)
    assert stored.rows(paths)[sample.id]["classes"] == "[1, 2]"


@pytest.mark.parametrize(
    ("png", "message"),
    [
        (stored.label_png(16, 13), "label is 16x13 and the frame 16x12"),
        (stored.png(16, 12), "8-bit png of 3 channels"),
        (images.encode_jpeg(images.decode_colour(stored.png(16, 12))), "jpeg"),
        (b"", "not a readable image"),
        (b"\x89PNG\r\n\x1a\n", "not a readable image"),
    ],
)
def test_a_label_that_does_not_fit_is_refused(
    store: Store, paths: StatePaths, png: bytes, message: str
) -> None:
    sample = stored.new_sample(1)
    store.add_sample(sample).result(WAIT)
    with pytest.raises(LabelMismatch, match=message):
        store.add_label(sample.id, png, [1], "import").result(WAIT)
    assert len(stored.files(paths)) == 1
    assert stored.rows(paths)[sample.id]["label_path"] is None


def test_a_frame_whose_label_does_not_fit_is_not_kept(store: Store, paths: StatePaths) -> None:
    sample = stored.new_sample(1, label=[1], native_width=32, native_height=24)
    with pytest.raises(LabelMismatch, match="16x12 and the frame 32x24"):
        store.add_sample(sample).result(WAIT)
    assert stored.files(paths) == []
    assert stored.rows(paths) == {}


def test_a_label_without_a_class_replaces_none(store: Store, paths: StatePaths) -> None:
    sample = stored.new_sample(1, label=[4])
    store.add_sample(sample).result(WAIT)
    empty = stored.label_png(16, 12, [])
    with pytest.raises(LabelEmpty, match="no class in any pixel"):
        store.add_label(sample.id, empty, [], "wire").result(WAIT)
    store.add_label(sample.id, stored.label_png(16, 12, [6]), [6], "import").result(WAIT)
    store.add_sample(stored.new_sample(1, label=[])).result(WAIT)
    assert stored.rows(paths)[sample.id]["classes"] == "[6]"


def test_the_label_before_an_import_is_kept_until_the_next_or_until_its_sample_goes(
    store: Store, paths: StatePaths
) -> None:
    first, second = stored.new_sample(1, label=[4]), stored.new_sample(2)
    for sample in (first, second):
        store.add_sample(sample).result(WAIT)

    def bring(sample: NewSample, class_id: int, name: str) -> None:
        png = stored.label_png(16, 12, [class_id])
        store.add_label(sample.id, png, [class_id], "import", import_id=name).result(WAIT)

    bring(first, 5, "a")
    bring(first, 6, "a")  # the same import again: the label before it is still the first one
    bring(second, 7, "a")
    assert store.restore_label(first.id).result(WAIT)
    assert stored.rows(paths)[first.id]["classes"] == "[4]"
    with pytest.raises(UnknownSample, match="the last import"):
        store.restore_label(first.id).result(WAIT)
    bring(first, 8, "b")
    with pytest.raises(UnknownSample, match="the last import"):
        store.restore_label(second.id).result(WAIT)
    store.remove_samples([first.id]).result(WAIT)
    assert stored.rows(paths, "label_undo", "sample_id") == {}
    assert store.snapshot().bytes == stored.total_bytes(paths)
    counted = store.snapshot()
    assert (counted.labels_stored, counted.labels_undone, counted.labels_come) == (5, 1, 4)


def test_a_label_that_came_after_an_import_stays(store: Store, paths: StatePaths) -> None:
    sample = stored.new_sample(1)
    store.add_sample(sample).result(WAIT)
    store.add_label(sample.id, stored.label_png(16, 12, [5]), [5], "import", import_id="a").result(WAIT)
    store.add_label(sample.id, stored.label_png(16, 12, [6]), [6], "wire").result(WAIT)
    with pytest.raises(LabelChanged, match="another label since"):
        store.restore_label(sample.id).result(WAIT)
    assert stored.rows(paths)[sample.id]["classes"] == "[6]"


def test_import_and_undo_in_one_group(paths: StatePaths) -> None:
    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    sample = stored.new_sample(1, label=[4])
    labels = [stored.label_png(16, 12, [c]) for c in (5, 6)]
    futures = [
        store.add_sample(sample),
        store.add_label(sample.id, labels[0], [5], "wire"),
        store.add_label(sample.id, labels[1], [6], "import", import_id="a"),
    ]
    store.start()
    for future in futures:
        future.result(WAIT)
    assert store.restore_label(sample.id).result(WAIT)
    assert store.stop(WAIT)
    row = stored.rows(paths)[sample.id]
    assert (row["classes"], row["label_source"]) == ("[5]", "wire")
    assert (paths.root / row["label_path"]).read_bytes() == labels[0]


def test_a_label_for_nothing_is_refused(store: Store) -> None:
    with pytest.raises(UnknownSample, match="'front-1-2'"):
        store.add_label("front-1-2", stored.label_png(16, 12), [1], "import").result(WAIT)


def test_a_label_that_somebody_else_wrote_meanwhile_is_not_replaced(store: Store) -> None:
    sample = store.add_sample(stored.new_sample(0)).result(WAIT).id
    first, second = stored.label_png(16, 12, (1,)), stored.label_png(16, 12, (2,))
    store.add_label(sample, first, (1,), "person", replaces="").result(WAIT)
    with pytest.raises(LabelChanged, match="somebody else"):
        store.add_label(sample, second, (2,), "person", replaces="").result(WAIT)
    store.add_label(sample, second, (2,), "person", replaces=digest(first)).result(WAIT)
    # A model's label is no one's work.
    other = store.add_sample(stored.new_sample(1)).result(WAIT).id
    store.add_label(other, first, (1,), "teacher", confidence=0.9).result(WAIT)
    store.add_label(other, second, (2,), "person", replaces="").result(WAIT)
