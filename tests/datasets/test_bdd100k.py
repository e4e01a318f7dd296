from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dance_ondevice.datasets.bdd100k import bdd100k, read_label
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.images.codec import encode_jpeg, encode_png
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.labels import IGNORE, LabelError


def add(root: Path, split: str, stem: str, label: np.ndarray | None) -> None:
    images, labels = root / "images" / "10k" / split, root / "labels" / "sem_seg" / "masks" / split
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    (images / f"{stem}.jpg").write_bytes(encode_jpeg(np.zeros((4, 6, 3), np.uint8)))
    if label is not None:
        (labels / f"{stem}.png").write_bytes(encode_png(label))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    label = np.array([[0, 18, IGNORE]], np.uint8)
    for stem in ("00e9be89-00001005", "0004a4c0-d4dff0ad"):
        add(tmp_path, "train", stem, label)
    add(tmp_path, "val", "7d06fefd-f7be05a6", label)
    return tmp_path


def test_images_come_by_name_with_their_masks(root: Path) -> None:
    items = bdd100k(root)
    assert [(item.sequence, item.frame) for item in items] == [
        ("0004a4c0-d4dff0ad", 0),
        ("00e9be89-00001005", 0),
    ]
    assert items[0].image == root / "images/10k/train/0004a4c0-d4dff0ad.jpg"
    assert items[0].label == root / "labels/sem_seg/masks/train/0004a4c0-d4dff0ad.png"
    assert len(bdd100k(root, ("train", "val"))) == 3


def test_masks_hold_train_ids(root: Path) -> None:
    assert read_label(bdd100k(root)[0].label).tolist() == [[0, 18, IGNORE]]


def test_other_ids_and_colour_maps_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(encode_png(np.full((2, 3), 19, np.uint8)))
    with pytest.raises(LabelError, match=r"mask\.png: .*ids 19 in 6 pixels"):
        read_label(path)
    path.write_bytes(encode_png(np.zeros((2, 3, 3), np.uint8)))
    with pytest.raises(ImageError, match="single-channel"):
        read_label(path)


def test_a_wrong_root_says_what_was_expected(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"no folder .*/images/images/10k/train: .*the images.*'train'"):
        bdd100k(root / "images")
    images = root / "images/10k/test"
    images.mkdir()
    with pytest.raises(DatasetError, match=r"no \.jpg, \.jpeg or \.png images in .*/test"):
        bdd100k(root, ("test",))
    (images / "a-b.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"no folder .*/labels/sem_seg/masks/test: .*label masks"):
        bdd100k(root, ("test",))


def test_a_missing_mask_is_named(root: Path) -> None:
    add(root, "val", "a-b", None)
    with pytest.raises(DatasetError, match=r"expected .*/masks/val/a-b\.png"):
        bdd100k(root, ("val",))


@pytest.mark.parametrize("inside", [False, True])
def test_the_layout_as_first_published(tmp_path: Path, inside: bool) -> None:
    seg = tmp_path / "seg"
    for folder in ("images", "labels", "color_labels"):
        (seg / folder / "train").mkdir(parents=True)
    (seg / "images/train/0a-b.jpg").write_bytes(encode_jpeg(np.zeros((4, 6, 3), np.uint8)))
    (seg / "labels/train/0a-b_train_id.png").write_bytes(encode_png(np.zeros((4, 6), np.uint8)))

    (item,) = bdd100k(seg if inside else tmp_path)

    assert (item.image, item.sequence) == (seg / "images/train/0a-b.jpg", "0a-b")
    assert item.label == seg / "labels/train/0a-b_train_id.png"
    (seg / "images/train/c-d.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"expected .*/seg/labels/train/c-d_train_id\.png"):
        bdd100k(tmp_path)
