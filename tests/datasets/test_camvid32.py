from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dance_ondevice.datasets.camvid import LabelColours, camvid32
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.images.codec import encode_png
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.labels import IGNORE, LabelError

TABLE = "name,r,g,b\nAnimal,64,128,64\nArchway,192,0,128\nBicyclist,0, 128, 192\nVoid,0,0,0\nWall,64,192,0\n"


def write_label(path: Path, *rgb: tuple[int, int, int]) -> Path:
    """A PNG of one row with these colours."""
    path.write_bytes(encode_png(np.array([rgb], np.uint8)[..., ::-1].copy()))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "class_dict.csv").write_text(TABLE)
    for split, stem in (("train", "0016E5_08640"), ("train", "0001TP_006690"), ("val", "0006R0_f00930")):
        (tmp_path / split).mkdir(exist_ok=True)
        (tmp_path / f"{split}_labels").mkdir(exist_ok=True)
        write_label(tmp_path / split / f"{stem}.png", (0, 0, 0))
        write_label(tmp_path / f"{split}_labels" / f"{stem}_L.png", (64, 192, 0))
    return tmp_path


def test_images_come_by_sequence_and_time_with_their_colour_labels(root: Path) -> None:
    items = camvid32(root, ("train", "val"))
    assert [(item.sequence, item.frame) for item in items] == [
        ("0001TP", 6690),
        ("0006R0", 930),
        ("0016E5", 8640),
    ]
    assert items[0].label == root / "train_labels" / "0001TP_006690_L.png"
    assert LabelColours.load(root).read_label(items[0].label).tolist() == [[3]]


def test_ids_follow_the_table_and_void_is_ignored(root: Path, tmp_path: Path) -> None:
    colours = LabelColours.load(root)
    assert colours.classes == ("Animal", "Archway", "Bicyclist", "Wall")
    path = write_label(
        tmp_path / "l.png", (0, 128, 192), (64, 128, 64), (0, 0, 0), (64, 192, 0), (192, 0, 128)
    )
    label = colours.read_label(path)
    assert label.tolist() == [[2, 0, IGNORE, 3, 1]]
    assert label.dtype == np.uint8


def test_a_colour_of_no_class_is_refused(root: Path, tmp_path: Path) -> None:
    # (192, 128, 0) is that of the third class with red and blue exchanged.
    path = write_label(tmp_path / "l.png", (192, 128, 0), (0, 0, 0), (255, 255, 255), (255, 255, 255))
    with pytest.raises(LabelError, match=r"l\.png: 3 pixels .*\(192, 128, 0\), \(255, 255, 255\)$"):
        LabelColours.load(root).read_label(path)


def test_without_void_in_the_table_black_is_a_stranger(root: Path, tmp_path: Path) -> None:
    (root / "class_dict.csv").write_text("name,r,g,b\nWall,64,192,0\n")
    with pytest.raises(LabelError, match=r"\(0, 0, 0\)"):
        LabelColours.load(root).read_label(write_label(tmp_path / "l.png", (0, 0, 0)))


def test_a_label_of_ids_is_refused(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "l.png"
    path.write_bytes(encode_png(np.zeros((2, 2), np.uint8)))
    with pytest.raises(ImageError, match=r"l\.png: a colour label .*found png with 1 channels"):
        LabelColours.load(root).read_label(path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Road,128,64", r"line 3: expected name,r,g,b, found Road,128,64"),
        ("Road,128,64,256", r"line 3: expected name,r,g,b"),
        ("Road,128,64,-1", r"line 3: expected name,r,g,b"),
        (",128,64,128", r"line 3: expected name,r,g,b"),
        ("Road,1,2,3", r"line 3: Road has the colour of Wall"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "class_dict.csv").write_text(f"name,r,g,b\nWall,1,2,3\n{line}\n")
    with pytest.raises(DatasetError, match=told):
        LabelColours.load(tmp_path)


def test_a_wrong_root_says_what_was_expected(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"no file .*/train/class_dict\.csv: .*name,r,g,b"):
        LabelColours.load(root / "train")
    with pytest.raises(DatasetError, match=r"no folder .*/test: it should hold the images"):
        camvid32(root, ("test",))
    (root / "val_labels" / "0006R0_f00930_L.png").unlink()
    with pytest.raises(DatasetError, match=r"expected .*/val_labels/0006R0_f00930_L\.png"):
        camvid32(root, ("val",))
    (root / "class_dict.csv").write_text("name,r,g,b\n")
    with pytest.raises(DatasetError, match=r"class_dict\.csv names no classes"):
        LabelColours.load(root)
