"""A folder that is not the data set asked for: the message says where that is, or what this is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dance_ondevice.datasets.layouts import known
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.datasets.registry import DATASET_NAMES, open_dataset
from dance_ondevice.images.codec import encode_png

PIXEL = encode_png(np.zeros((2, 3, 3), np.uint8))
FILES: dict[str, tuple[str, ...]] = {
    "camvid": ("train/0001TP_1.png", "trainannot/0001TP_1.png", "val/0001TP_2.png", "valannot/0001TP_2.png"),
    "camvid32": ("train/0001TP_1.png", "train_labels/0001TP_1_L.png", "class_dict.csv"),
    "cityscapes": ("leftImg8bit/train/ulm/a.png", "gtFine/train/ulm/a.png"),
    "bdd100k": ("images/10k/train/a.jpg", "labels/sem_seg/masks/train/a.png"),
    "acdc": ("rgb_anon/fog/train/G/a.png", "gt/fog/train/G/a.png"),
    "idd_lite": ("train/d001_1.jpg", "trainannot/d001_1.png"),
}


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A folder with few neighbours: those above it are looked at as well, and there all tests have theirs."""
    deep = tmp_path / "a" / "few" / "below"
    deep.mkdir(parents=True)
    return deep


def lay(root: Path, files: tuple[str, ...]) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"name,r,g,b\nCar,1,2,3\n" if name.endswith(".csv") else PIXEL)
    return root


def refusal(name: str, root: Path, split: str = "nowhere") -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(name, root).images((split,))
    return str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_each_layout_is_known_as_itself_alone(name: str, tmp_path: Path) -> None:
    assert known(lay(tmp_path, FILES[name])) == [name]
    assert set(FILES) == set(DATASET_NAMES)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("bdd100k", ("seg/images/train/a.jpg", "seg/labels/train/a_train_id.png")),
        ("acdc", ("rgb_anon_trainvaltest/rgb_anon/fog/train/G/a.png", "gt_trainval/gt/fog/train/G/a.png")),
        ("idd_lite", ("leftImg8bit/train/3/1_image.jpg", "gtFine/train/3/1_label.png")),
    ],
)
def test_other_layouts_of_the_same(name: str, files: tuple[str, ...], tmp_path: Path) -> None:
    assert known(lay(tmp_path, files)) == [name]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("deeper", ["data", "data/unpacked"])
def test_a_root_too_high_names_the_folder_below(name: str, deeper: str, tmp_path: Path) -> None:
    lay(tmp_path / deeper, FILES[name])

    assert f"that layout is in {tmp_path / deeper}: give that folder" in refusal(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "inside"), [("cityscapes", "leftImg8bit"), ("bdd100k", "images/10k"), ("acdc", "rgb_anon")]
)
def test_a_root_too_deep_names_the_folder_above(name: str, inside: str, tmp_path: Path) -> None:
    lay(tmp_path, FILES[name])

    assert f"that layout is in {tmp_path}: give that folder" in refusal(name, tmp_path / inside)


@pytest.mark.parametrize("wanted", FILES)
@pytest.mark.parametrize("found", FILES)
def test_another_data_set_is_named(wanted: str, found: str, tmp_path: Path) -> None:
    lay(tmp_path / "here", FILES[found])
    told = refusal(wanted, tmp_path / "here")

    assert wanted == found or f"laid out as {found}: use --dataset {found}" in told
    if wanted != found:
        above = refusal(wanted, tmp_path)
        assert f"{tmp_path / 'here'} is laid out as {found}: use --dataset {found} --root" in above


def test_idd_lite_is_not_taken_for_camvid_although_its_names_and_ids_would_do(tmp_path: Path) -> None:
    lay(tmp_path, FILES["idd_lite"])

    assert "use --dataset idd_lite" in refusal("camvid", tmp_path, "train")


@pytest.mark.parametrize(
    ("name", "files", "words"),
    [
        (
            "camvid",
            ("701_StillsRaw_full/a.png", "LabeledApproved_full/a_L.png", "label_colors.txt"),
            ("first published", "train_labels/", "class_dict.csv", "--dataset camvid32"),
        ),
        ("camvid", ("images/a.png", "labels/a_P.png", "codes.txt"), ("fast.ai", "codes.txt", "--images")),
        ("cityscapes", ("leftImg8bit/train/ulm/a.png", "gtCoarse/train/ulm/a.png"), ("gtCoarse", "gtFine")),
    ],
)
def test_layouts_that_are_not_read_come_with_a_way_out(
    name: str, files: tuple[str, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    told = refusal(name, lay(tmp_path, files))

    assert all(word in told for word in words), told


def test_a_split_that_is_not_there_gets_no_wrong_advice(tmp_path: Path) -> None:
    lay(tmp_path, FILES["camvid"])

    told = refusal("camvid", tmp_path)

    assert told.endswith("it should hold the images of the split 'nowhere'")
    assert refusal("camvid", tmp_path / "missing").endswith(f"that layout is in {tmp_path}: give that folder")
