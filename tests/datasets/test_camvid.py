from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dance_ondevice.datasets.camvid import camvid, read_label
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.images.codec import decode_colour, encode_jpeg, encode_png
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.labels import IGNORE, STREET_CLASSES, check_label


def add(root: Path, split: str, name: str, *, label: bool = True) -> Path:
    """Write an image and, unless told otherwise, its label; returns the image's path."""
    image = root / split / name
    image.parent.mkdir(parents=True, exist_ok=True)
    (root / f"{split}annot").mkdir(exist_ok=True)
    bgr = np.zeros((6, 8, 3), np.uint8)
    image.write_bytes(encode_png(bgr) if image.suffix == ".png" else encode_jpeg(bgr))
    if label:
        mask = np.arange(48, dtype=np.uint8).reshape(6, 8) % 12
        (root / f"{split}annot" / f"{image.stem}.png").write_bytes(encode_png(mask))
    return image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("0016E5_00390.jpg", "0001TP_008550.png", "0001TP_008520.jpeg", "0006R0_f01080.JPG"):
        add(tmp_path, "train", name)
    add(tmp_path, "val", "0001TP_000030.jpg")
    return tmp_path


def test_lists_by_sequence_and_frame(root: Path) -> None:
    items = camvid(root)
    assert [(item.sequence, item.frame) for item in items] == [
        ("0001TP", 8520),
        ("0001TP", 8550),
        ("0006R0", 1080),
        ("0016E5", 390),
    ]
    assert items[0].image == root / "train" / "0001TP_008520.jpeg"
    assert items[0].label == root / "trainannot" / "0001TP_008520.png"


def test_several_splits_come_in_one_order_of_time(root: Path) -> None:
    items = camvid(root, ("train", "val"), ["0001TP"])
    assert [(item.frame, item.image.parent.name) for item in items] == [
        (30, "val"),
        (8520, "train"),
        (8550, "train"),
    ]


def test_only_the_wanted_sequences(root: Path) -> None:
    assert {item.sequence for item in camvid(root, sequences=["0006R0", "0016E5"])} == {"0006R0", "0016E5"}


def test_numbers_are_compared_as_numbers(tmp_path: Path) -> None:
    for frame in ("f100", "f99", "f1000"):
        add(tmp_path, "train", f"A_B_{frame}.jpg")
    assert [(item.sequence, item.frame) for item in camvid(tmp_path)] == [
        ("A_B", 99),
        ("A_B", 100),
        ("A_B", 1000),
    ]


def test_other_files_are_left_alone(root: Path) -> None:
    (root / "train" / "README.md").write_text("about")
    (root / "train" / "Thumbs.db").write_bytes(b"")
    assert len(camvid(root)) == 4


def test_missing_folders_are_named(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"no folder .*/test: .* images"):
        camvid(root, ("train", "test"))
    (root / "unlabelled").mkdir()
    with pytest.raises(DatasetError, match=r"no folder .*/unlabelledannot: .* label masks"):
        camvid(root, ("unlabelled",))


def test_a_missing_label_is_named(root: Path) -> None:
    add(root, "train", "0016E5_00420.jpg", label=False)
    with pytest.raises(DatasetError, match=r"expected .*/trainannot/0016E5_00420\.png"):
        camvid(root)


def test_an_unknown_sequence_is_refused_with_those_there_are(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"no images of 0005VD .*0001TP, 0006R0, 0016E5"):
        camvid(root, sequences=["0001TP", "0005VD"])


def test_a_name_without_a_frame_is_refused(root: Path) -> None:
    add(root, "train", "holiday.jpg")
    with pytest.raises(DatasetError, match=r"holiday\.jpg.*0001TP_008520"):
        camvid(root)


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "trainannot").mkdir()
    with pytest.raises(DatasetError, match=r"no \.jpg, \.jpeg or \.png images"):
        camvid(tmp_path)


def test_read_label_turns_void_into_ignore(root: Path) -> None:
    label = read_label(camvid(root)[0].label)
    assert sorted(set(label.ravel().tolist())) == [*range(11), IGNORE]
    check_label(label, len(STREET_CLASSES))


def test_read_label_refuses_colour(root: Path) -> None:
    item = camvid(root)[0]
    item.label.write_bytes(encode_png(np.zeros((6, 8, 3), np.uint8)))
    with pytest.raises(ImageError, match="single-channel"):
        read_label(item.label)


def test_real_data(camvid_dir: Path) -> None:
    items = camvid(camvid_dir)
    assert len(items) >= 62
    assert [item.frame for item in items if item.sequence == "0001TP"] == sorted(
        item.frame for item in items if item.sequence == "0001TP"
    )
    for item in items[:: len(items) // 5]:
        label = read_label(item.label)
        check_label(label, len(STREET_CLASSES))
        assert decode_colour(item.image.read_bytes()).shape == (*label.shape, 3)
        assert len(set(label.ravel().tolist())) > 4
