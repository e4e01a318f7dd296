from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dance_ondevice.datasets.acdc import acdc, pairs
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.images.codec import encode_png

IMAGE = encode_png(np.zeros((4, 6, 3), np.uint8))
LABEL = encode_png(np.zeros((4, 6), np.uint8))


def add(
    root: Path, condition: str, split: str, key: str, *, label: bool = True, reference: bool = True
) -> None:
    """Write an image with its label and the reference of the same place."""
    sequence = key.partition("_")[0]
    files = {f"rgb_anon/{condition}/{split}/{sequence}/{key}_rgb_anon.png": IMAGE}
    if label:
        files[f"gt/{condition}/{split}/{sequence}/{key}_gt_labelTrainIds.png"] = LABEL
        files[f"gt/{condition}/{split}/{sequence}/{key}_gt_labelIds.png"] = LABEL
    if reference:
        files[f"rgb_anon/{condition}/{split}_ref/{sequence}/{key}_rgb_ref_anon.png"] = IMAGE
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for condition, key in (
        ("fog", "GOPR0475_frame_000247"),
        ("fog", "GOPR0475_frame_000041"),
        ("night", "GOPR0351_frame_000159"),
        ("rain", "GP010400_frame_000075"),
        ("snow", "GP020607_frame_000001"),
    ):
        add(tmp_path, condition, "train", key)
    add(tmp_path, "night", "test", "GOPR0352_frame_000003", label=False)
    add(tmp_path, "night", "val", "GOPR0356_frame_000003", reference=False)
    return tmp_path


def test_images_of_all_conditions_come_by_sequence_and_time(root: Path) -> None:
    items = acdc(root)

    assert [(item.sequence, item.frame) for item in items] == [
        ("GOPR0351", 159),
        ("GOPR0475", 41),
        ("GOPR0475", 247),
        ("GP010400", 75),
        ("GP020607", 1),
    ]
    assert items[1].image == root / "rgb_anon/fog/train/GOPR0475/GOPR0475_frame_000041_rgb_anon.png"
    assert items[1].label == root / "gt/fog/train/GOPR0475/GOPR0475_frame_000041_gt_labelTrainIds.png"


def test_conditions_are_chosen(root: Path) -> None:
    assert [item.sequence for item in acdc(root, ("train", "val"), ("night",))] == ["GOPR0351", "GOPR0356"]
    with pytest.raises(DatasetError, match="'dusk' is none of ACDC's conditions: fog, night, rain, snow"):
        acdc(root, ("train",), ("night", "dusk"))


def test_an_image_and_its_place_by_day_are_a_pair_whether_labelled_or_not(root: Path) -> None:
    (night,) = pairs(root, ("test",), ("night",))

    assert (night.condition, night.sequence, night.frame) == ("night", "GOPR0352", 3)
    assert night.image == root / "rgb_anon/night/test/GOPR0352/GOPR0352_frame_000003_rgb_anon.png"
    assert night.reference == root / "rgb_anon/night/test_ref/GOPR0352/GOPR0352_frame_000003_rgb_ref_anon.png"
    assert len(pairs(root)) == 5
    with pytest.raises(DatasetError, match=r"no folder .*night/val_ref"):
        pairs(root, ("val",), ("night",))


def test_the_folders_that_the_archives_unpack_to_will_do(root: Path) -> None:
    for archive, folder in (("rgb_anon_trainvaltest", "rgb_anon"), ("gt_trainval", "gt")):
        (root / archive).mkdir()
        (root / folder).rename(root / archive / folder)

    assert len(acdc(root)) == 5


def test_what_is_missing_is_named(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"no folder .*/gt/night/test: .*label masks"):
        acdc(root, ("test",), ("night",))
    with pytest.raises(DatasetError, match=r"no folder .*/rgb_anon/fog/val: .*images.*'val'"):
        acdc(root, ("val",))
    add(root, "snow", "train", "GP020607_frame_000002", label=False)
    with pytest.raises(DatasetError, match=r"expected .*GP020607_frame_000002_gt_labelTrainIds\.png"):
        acdc(root)
    (root / "rgb_anon/rain/train/GP010400/holiday.png").write_bytes(IMAGE)
    with pytest.raises(DatasetError, match=r"holiday\.png: a name is <sequence>_frame_<frame>_rgb_anon\.png"):
        acdc(root, ("train",), ("rain",))
