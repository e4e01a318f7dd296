from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dance_ondevice.datasets.cityscapes import NINETEEN_CLASSES, cityscapes, read_label
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.images.codec import encode_png
from dance_ondevice.images.labels import IGNORE, LabelError


def add(root: Path, split: str, key: str, *kinds: str) -> None:
    """Write an image and its labels of these kinds."""
    city = key.partition("_")[0]
    images, labels = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    (images / f"{key}_leftImg8bit.png").write_bytes(encode_png(np.zeros((4, 6, 3), np.uint8)))
    for kind in kinds:
        (labels / f"{key}_gtFine_{kind}.png").write_bytes(encode_png(np.zeros((4, 6), np.uint8)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add(tmp_path, "train", "ulm_000001_000119", "labelIds")
    add(tmp_path, "train", "ulm_000001_000019", "labelIds", "labelTrainIds", "color", "instanceIds")
    add(tmp_path, "train", "aachen_000010_000019", "labelTrainIds")
    add(tmp_path, "val", "lindau_000000_000019", "labelIds")
    return tmp_path


def test_images_come_by_sequence_and_time_with_their_labels(root: Path) -> None:
    items = cityscapes(root)
    assert [(item.sequence, item.frame) for item in items] == [
        ("aachen_000010", 19),
        ("ulm_000001", 19),
        ("ulm_000001", 119),
    ]
    assert items[1].image == root / "leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png"
    assert [item.label.name for item in items] == [
        "aachen_000010_000019_gtFine_labelTrainIds.png",
        "ulm_000001_000019_gtFine_labelTrainIds.png",
        "ulm_000001_000119_gtFine_labelIds.png",
    ]
    assert items[1].label.parent == root / "gtFine/train/ulm"


def test_splits_are_put_together(root: Path) -> None:
    assert [item.sequence for item in cityscapes(root, ("val",))] == ["lindau_000000"]
    assert len(cityscapes(root, ("train", "val"))) == 4


def test_label_ids_become_train_ids(tmp_path: Path) -> None:
    path = tmp_path / "ulm_000001_000019_gtFine_labelIds.png"
    path.write_bytes(encode_png(np.array([[7, 8, 26, 33], [0, 4, 30, 255]], np.uint8)))
    label = read_label(path)
    # road, sidewalk, car, bicycle; unlabelled, static, trailer, licence plate
    assert label.tolist() == [[0, 1, 13, 18], [IGNORE] * 4]
    assert label.dtype == np.uint8


def test_every_train_id_has_one_label_id(tmp_path: Path) -> None:
    path = tmp_path / "a_gtFine_labelIds.png"
    path.write_bytes(encode_png(np.arange(34, dtype=np.uint8)[None]))
    label = read_label(path)
    assert sorted(label[label != IGNORE].tolist()) == list(range(19))
    assert len(NINETEEN_CLASSES) == 19


def test_train_ids_stay(tmp_path: Path) -> None:
    path = tmp_path / "ulm_000001_000019_gtFine_labelTrainIds.png"
    path.write_bytes(encode_png(np.array([[0, 7, 18, 255]], np.uint8)))
    assert read_label(path).tolist() == [[0, 7, 18, 255]]


@pytest.mark.parametrize(("kind", "wrong"), [("labelIds", 34), ("labelTrainIds", 19)])
def test_ids_that_such_a_file_does_not_have_are_refused(tmp_path: Path, kind: str, wrong: int) -> None:
    path = tmp_path / f"ulm_000001_000019_gtFine_{kind}.png"
    path.write_bytes(encode_png(np.full((2, 2), wrong, np.uint8)))
    with pytest.raises(LabelError, match=rf"{kind}\.png: .*ids {wrong} in 4 pixels"):
        read_label(path)


def test_a_wrong_root_says_what_was_expected(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(DatasetError, match=r"no folder .*/leftImg8bit/leftImg8bit/train: .*city.*'train'"):
        cityscapes(root / "leftImg8bit")
    with pytest.raises(DatasetError, match=r"no folder .*/leftImg8bit/night"):
        cityscapes(root, ("night",))
    (root / "leftImg8bit" / "test").mkdir()
    with pytest.raises(DatasetError, match=r"no folder .*/gtFine/test: .*label masks"):
        cityscapes(root, ("test",))
    (root / "gtFine" / "test").mkdir()
    with pytest.raises(
        DatasetError, match=r"no folders in .*/test: expected one for each city, such as .*aachen"
    ):
        cityscapes(root, ("test",))


def test_a_missing_label_is_named(root: Path) -> None:
    add(root, "val", "lindau_000001_000019", "color")
    with pytest.raises(
        DatasetError,
        match=r"expected .*gtFine/val/lindau/lindau_000001_000019_gtFine_labelTrainIds\.png or .*labelIds",
    ):
        cityscapes(root, ("val",))


def test_a_strange_name_is_refused(root: Path) -> None:
    (root / "leftImg8bit/val/lindau/holiday.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"holiday\.png.*<city>_<sequence>_<frame>_leftImg8bit\.png"):
        cityscapes(root, ("val",))
