"""``labels import`` and ``labels undo``, through a real control socket into a real store."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_imports import (
    CAR,
    SENTINEL,
    SIZE,
    add,
    coco,
    guard,
    label,
    mask_of,
    put,
    rows,
    write,
    zipped,
)
from tool_scene import NAMES, truth

from dance_ondevice.daemon.commands.samples import labels as command
from dance_ondevice.daemon.control import labels as control_labels
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.images.codec import encode_png
from dance_ondevice.label_formats.reader import FORMATS

TOOLS = Path(__file__).parents[3] / "label_formats" / "fixtures"


@pytest.mark.usefixtures("daemon")
def test_labels_named_after_samples_are_stored(bring, ids, folder: Path, paths: StatePaths) -> None:
    for name in ids[:2]:
        (folder / f"{name}.png").write_bytes(label(3))
    (folder / "notes.txt").write_text("not a label")
    answer = bring(folder)
    assert (answer["imported"], answer["refused"]) == (2, 0)
    assert [rows(paths)[each]["label_source"] for each in ids] == ["import", "import", None]


@pytest.mark.usefixtures("daemon", "ids")
def test_with_a_camera_the_last_number_is_the_sequence_number(
    run, refuse, folder: Path, paths: StatePaths
) -> None:
    (folder / "clip7_000002_label.png").write_bytes(label(3))
    assert "1 refused" in refuse(folder)
    args = ("labels", "import", str(folder), "--state-dir", str(paths.root))
    (folder / "2024-05-01 10-00-01.png").write_bytes(label(3))
    done = run(*args, "--camera", "front", code=1)
    assert "1 imported, 1 refused" in done.stdout
    assert "a date or a hash" in " ".join(done.stdout.split())
    assert [row["seq"] for row in rows(paths).values() if row["label_path"]] == [2]


@pytest.mark.usefixtures("daemon", "ids")
def test_a_number_that_no_sample_or_several_have_says_which(bring, store: Store, folder: Path) -> None:
    add(store, "front-1700000100000000-2", "front")  # of a second recording
    for name in ("clip_000002.png", "clip_000009.png"):
        (folder / name).write_bytes(label(3))
    answer = bring(folder, "--camera", "front", code=1)
    assert [each["error"].partition(":")[0] for each in answer["results"]] == [
        "no sample of this name, and several of camera 'front' have the number 2, as of several "
        "recordings sent as one camera",
        "no sample of this name, and none of camera 'front' has the number 9",
    ]


@pytest.mark.usefixtures("daemon")
def test_a_folder_that_is_called_as_another_camera_is_left_out(
    bring, store: Store, ids, folder: Path, paths: StatePaths
) -> None:
    add(store, "rear-1700000000000000-7", "rear")
    for name, number in (("front/0000.png", 1), ("rear/0001.png", 2)):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(label(number))
    write(folder / "a.json", coco("rear\\0002.jpg", annotations=[CAR]))
    answer = bring(folder, "--camera", "front", code=1)
    assert (answer["imported"], answer["refused"]) == (1, 2)
    assert all("another camera, 'rear'" in each["error"] for each in answer["results"] if each["error"])
    assert np.all(mask_of(paths, ids[0]) == 1)


@pytest.mark.usefixtures("daemon")
def test_a_label_of_a_sample_that_is_gone_goes_to_no_other_of_its_number(
    bring, ids, folder: Path, paths: StatePaths
) -> None:
    # The camera was started again and counts from 0: the sample of the same number is another picture.
    for name in ("front-1700009999000000-2", "back-1700000001000000-1"):
        (folder / f"{name}.png").write_bytes(label(3))
    (folder / f"{ids[0]} (1).png").write_bytes(label(4))  # downloaded a second time
    answer = bring(folder, "--camera", "front", code=1)
    assert (answer["imported"], answer["refused"]) == (1, 2)
    assert all("evicted" in each["error"] for each in answer["results"] if each["error"])
    assert [row["label_path"] is not None for row in rows(paths).values()] == [True, False, False]


@pytest.mark.usefixtures("daemon")
def test_refused_labels_are_listed_with_their_reasons(bring, refuse, ids, folder: Path) -> None:
    (folder / f"{ids[0]}.png").write_bytes(label(3))
    (folder / f"{ids[1]}.png").write_bytes(label(3, (5, 5)))
    (folder / f"{ids[2]}.png").write_bytes(label(77))
    (folder / "stranger.png").write_bytes(label(3))
    answer = bring(folder, code=1)
    assert (answer["imported"], answer["refused"]) == (1, 3)
    reasons = {result["file"]: result["error"] for result in answer["results"]}
    assert reasons[f"{ids[0]}.png"] is None
    assert "5" in reasons[f"{ids[1]}.png"]
    assert "77" in reasons[f"{ids[2]}.png"]
    assert "no sample" in reasons["stranger.png"]
    said = refuse(folder)
    assert "stranger.png" in said
    assert "77 = " in said.replace('"', "")  # the class map that would do


def test_an_empty_folder_is_no_success(run, folder: Path, paths: StatePaths, database: Any) -> None:
    said = run("labels", "import", str(folder), "--state-dir", str(paths.root), "--dry-run", code=1).stderr
    assert "no .png" in said


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("labels.txt", "export as COCO"),
        ("inner.zip", "inner.zip is not opened"),
        ("a.tif", "masks must be PNG"),
        ("images/a.png", "taken for pictures"),
    ],
)
def test_what_is_there_instead_is_named(refuse, folder: Path, tmp_path: Path, name: str, told: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    assert told in " ".join(refuse(zipped(folder, tmp_path / "tool.zip")).split())


def test_without_a_daemon_it_says_how_to_start_one(refuse, folder: Path) -> None:
    (folder / "a.png").write_bytes(label(3))
    assert "dance-ondevice run" in refuse(folder)


def test_a_missing_folder_is_wrong_usage(run, tmp_path: Path) -> None:
    run("labels", "import", str(tmp_path / "none"), code=2)


def test_the_formats_to_choose_from_are_those_of_the_table() -> None:
    (option,) = [each for each in command.import_.params if each.name == "kind"]
    assert list(option.type.choices) == ["auto", "png", *FORMATS]


@pytest.mark.usefixtures("daemon")
def test_an_image_that_is_listed_and_not_drawn_keeps_its_label(
    *, bring, refuse, ids, store: Store, folder: Path, paths: StatePaths
) -> None:
    guard(store, ids)
    listed = coco(f"{ids[0]}.jpg", f"{ids[1]}.jpg", annotations=[CAR])
    answer = bring(write(folder / "a.json", listed))
    assert (answer["imported"], answer["passed_over"], answer["refused"]) == (1, 1, 0)
    assert np.all(mask_of(paths, ids[1]) == SENTINEL)
    said = refuse(write(folder / "a.json", coco(f"{ids[1]}.jpg")))
    assert "lists no labelled image: 1 images are listed" in said
    xml = f'<annotations><image id="0" name="{ids[1]}.jpg" width="32" height="24"></image></annotations>'
    (folder / "a.json").write_text(xml)
    assert "lists no labelled image" in refuse(folder / "a.json")
    assert np.all(mask_of(paths, ids[1]) == SENTINEL)


@pytest.mark.usefixtures("daemon")
def test_with_a_background_what_nobody_drew_on_goes_over_no_label(
    *, bring, ids, store: Store, folder: Path, tmp_path: Path, paths: StatePaths
) -> None:
    put(store, ids[1], np.full(SIZE, SENTINEL, np.uint8))
    names = write(folder / "a.json", coco(*(f"{each}.jpg" for each in ids), annotations=[CAR]))
    (tmp_path / "map.toml").write_text('background = "road"')
    answer = bring(names, "--class-map", str(tmp_path / "map.toml"))
    assert [each["action"] for each in answer["results"]] == ["new", "passed over", "new"]
    assert np.all(mask_of(paths, ids[1]) == SENTINEL)
    assert np.all(mask_of(paths, ids[2]) == NAMES.index("road"))


@pytest.mark.usefixtures("daemon")
def test_a_mask_of_255_alone_replaces_no_label(
    refuse, ids, store: Store, folder: Path, paths: StatePaths
) -> None:
    guard(store, ids[:1])
    (folder / f"{ids[0]}.png").write_bytes(label(255))
    assert "1 passed over" in refuse(folder)
    assert np.all(mask_of(paths, ids[0]) == SENTINEL)


@pytest.mark.usefixtures("daemon")
def test_a_label_too_large_for_a_request_is_refused_alone(
    bring, ids, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / f"{ids[0]}.png").write_bytes(label(3))
    noise = np.random.default_rng(0).integers(0, 11, SIZE, dtype=np.uint8)
    (folder / f"{ids[1]}.png").write_bytes(encode_png(noise))
    monkeypatch.setattr(control_labels, "BYTES_AT_ONCE", 200)
    answer = bring(folder, code=1)
    assert (answer["imported"], answer["refused"]) == (1, 1)
    assert "at most 200" in answer["results"][1]["error"]


@pytest.mark.usefixtures("daemon")
def test_two_labels_for_one_sample_are_no_choice_of_ours(
    bring, store: Store, ids, folder: Path, paths: StatePaths
) -> None:
    (folder / f"{ids[0]}.png").write_bytes(label(3))
    (folder / "again").mkdir()
    (folder / "again" / f"{ids[0]}.png").write_bytes(label(3))
    assert bring(folder)["passed_over"] == 1
    (folder / "again" / f"0a1b2c3d-{ids[0]}.png").write_bytes(label(4))
    answer = bring(folder, code=1)
    assert "a second label" in next(each["error"] for each in answer["results"] if each["error"])
    assert (answer["imported"], answer["unchanged"]) == (0, 1)
    # Of masks of one camera each, or one class each, the first is no better than the others.
    guard(store, ids[1:2])
    for number, name in enumerate(("front", "rear"), 1):
        (folder / name).mkdir()
        (folder / name / f"{ids[1]}.png").write_bytes(label(number))
    answer = bring(folder, code=1)
    assert (answer["imported"], answer["refused"]) == (0, 3)
    assert [each["error"] for each in answer["results"]].count(None) == 2
    assert np.all(mask_of(paths, ids[1]) == SENTINEL)
    for number, name in enumerate(("friday", "monday"), 1):
        drawn = [{**CAR, "segmentation": [[0, 0, 8 * number, 0, 8 * number, 8]]}]
        write(folder / f"{name}.json", coco(f"{ids[2]}.jpg", annotations=drawn))
    (folder / "again" / f"{ids[0]}.png").unlink()
    (folder / "again" / f"0a1b2c3d-{ids[0]}.png").unlink()
    (folder / f"{ids[0]}.png").write_bytes(label(5))
    answer = bring(folder, code=1)
    why = [each["error"] for each in answer["results"] if each["sample"] == ids[2]]
    assert [each.rpartition(" in ")[2] for each in why] == ["monday.json", "friday.json"]
    # What was not taken has shown no class.
    assert answer["imported"] == 1
    assert "building, pole," in answer["notes"][0]


@pytest.mark.usefixtures("daemon")
def test_of_augmented_images_none_is_taken_for_the_picture(
    bring, ids, folder: Path, paths: StatePaths
) -> None:
    """Roboflow turns and mirrors them, the first as well as the others."""
    for number, name in enumerate((f"{ids[0]}_jpg.rf.0a", f"{ids[0]}_jpg.rf.1b", f"{ids[1]}_jpg.rf.2c")):
        (folder / f"{name}_mask.png").write_bytes(label(number + 1))
    answer = bring(folder, code=1)
    assert [each["action"] for each in answer["results"]] == ["refused", "refused", "new"]
    assert all("augmentation" in each["error"] for each in answer["results"][:2])
    assert [row["label_path"] is not None for row in rows(paths).values()] == [False, True, False]
    (folder / f"{ids[2]}_jpg.rf.3d_mask.png").write_bytes(label(1, (640, 640)))
    answer = bring(folder, code=1)
    assert any("without Resize" in (each["error"] or "") for each in answer["results"])


@pytest.mark.usefixtures("ids")
def test_a_dry_run_tells_all_without_a_daemon_and_writes_nothing(
    *, bring, run, ids, store: Store, folder: Path, paths: StatePaths
) -> None:
    put(store, ids[1], truth(0))
    for sample in ids[:2]:
        (folder / f"{sample}.png").write_bytes(encode_png(truth(0)))
    (folder / f"{ids[2]}.png").write_bytes(label(255))
    (folder / "stranger.png").write_bytes(label(1))
    answer = bring(folder, "--dry-run", code=1)
    assert (answer["imported"], answer["would_import"], answer["new"], answer["replaced"]) == (0, 2, 1, 1)
    told = {each["file"]: each for each in answer["results"]}
    new, replaced = told[f"{ids[0]}.png"], told[f"{ids[1]}.png"]
    assert (new["action"], replaced["action"], replaced["before"]) == ("new", "replaces", "wire")
    assert new["labelled"] == pytest.approx(np.mean(truth(0) != 255))
    assert new["classes"]["sky"] == pytest.approx(1 / 3)
    assert told[f"{ids[2]}.png"]["note"]
    assert told["stranger.png"]["error"]
    said = run("labels", "import", str(folder), "--state-dir", str(paths.root), "--dry-run", code=1).stdout
    assert "2 would be imported, 1 refused" in said
    assert "sky 33.3%" in said
    assert {row["label_source"] for row in rows(paths).values()} == {None, "wire"}


@pytest.mark.usefixtures("daemon")
def test_an_import_can_be_taken_back(
    *, bring, run_json, run, ids, store: Store, folder: Path, paths: StatePaths
) -> None:
    put(store, ids[0], truth(0))
    store.add_label(ids[1], label(6), [6], "teacher", confidence=0.75).result(30)
    before = rows(paths)
    for sample in ids:
        (folder / f"{sample}.png").write_bytes(label(3))
    assert bring(folder)["imported"] == 3
    put(store, ids[2], truth(2))  # somebody has corrected this one since
    args = ("labels", "undo", "--state-dir", str(paths.root))
    answer = run_json(*args, code=1)
    assert (answer["back"], answer["removed"]) == (2, 0)
    assert answer["left"][0][0] == ids[2]
    after = rows(paths)
    assert [after[each] for each in ids[:2]] == [before[each] for each in ids[:2]]
    np.testing.assert_array_equal(mask_of(paths, ids[0]), truth(0))
    np.testing.assert_array_equal(mask_of(paths, ids[2]), truth(2))


@pytest.mark.usefixtures("daemon")
def test_a_first_label_is_taken_away_again_and_only_the_last_import_goes(
    *, bring, run, run_json, ids, store: Store, folder: Path, paths: StatePaths
) -> None:
    for value, sample in ((3, ids[0]), (4, ids[1])):
        (folder / f"{sample}.png").write_bytes(label(value))
        bring(folder)
        (folder / f"{sample}.png").unlink()
    args = ("labels", "undo", "--state-dir", str(paths.root))
    assert run_json(*args) == {"back": 0, "removed": 1, "left": []}
    assert np.all(mask_of(paths, ids[0]) == 3)
    assert mask_of(paths, ids[1]) is None
    assert not list(paths.samples.rglob(f"{ids[1]}.label.png"))
    assert store.snapshot().samples_labelled == 1
    assert store.snapshot().bytes == sum(f.stat().st_size for f in paths.samples.rglob("*") if f.is_file())
    assert "no import to take back" in run(*args, code=1).stderr


@pytest.mark.usefixtures("daemon")
def test_what_was_imported_already_does_not_hide_the_labels_before_from_an_undo(
    *, bring, run_json, ids, store: Store, folder: Path, paths: StatePaths
) -> None:
    put(store, ids[0], truth(0))
    (folder / f"{ids[0]}.png").write_bytes(label(3))
    (folder / "stranger.png").write_bytes(label(3))
    bring(folder, code=1)
    (folder / "stranger.png").unlink()
    (stored,) = paths.samples.rglob(f"{ids[0]}.label.png")
    before = stored.read_bytes()
    stored.write_bytes(encode_png(mask_of(paths, ids[0])))  # as an earlier version wrote the same ids
    assert stored.read_bytes() != before
    answer = bring(folder)
    assert (answer["imported"], answer["unchanged"], answer["results"][0]["action"]) == (0, 1, "unchanged")
    stored.write_bytes(before)
    run_json("labels", "undo", "--state-dir", str(paths.root))
    np.testing.assert_array_equal(mask_of(paths, ids[0]), truth(0))


@pytest.mark.usefixtures("daemon")
def test_names_mean_the_classes_of_the_state_though_the_command_has_no_configuration(
    bring, ids, folder: Path, paths: StatePaths
) -> None:
    (paths.root / "classes.json").write_text('["bus", "car", "road"]')
    bring(write(folder / "a.json", coco(f"{ids[0]}.jpg", annotations=[CAR])))
    found = mask_of(paths, ids[0])
    assert found is not None
    assert set(np.unique(found)) == {1, 255}


@pytest.mark.usefixtures("daemon")
def test_a_store_that_is_busy_for_long_is_named(
    bring, ids, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_labels, "_STORE_SECONDS", 0.01)
    busy = threading.Event()
    store.submit(lambda _: busy.wait(60))
    write(folder / "a.json", coco(f"{ids[0]}.jpg", annotations=[CAR]))
    try:
        assert "import again" in bring(folder, code=1)["results"][0]["error"]
    finally:
        busy.set()
