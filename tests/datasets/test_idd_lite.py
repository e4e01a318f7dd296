from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dance_ondevice.datasets.idd_lite import IDD_LITE_CLASSES, idd_lite, read_label
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.images.codec import encode_png
from dance_ondevice.images.labels import LabelError

IMAGE = encode_png(np.zeros((4, 6, 3), np.uint8))
LABEL = encode_png(np.full((4, 6), 6, np.uint8))
#: The real data set, for those who have it.
SHARED = Path(os.environ.get("DANCE_IDD_LITE_DIR", "../shared/idd_lite"))


def write(root: Path, *files: str) -> None:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(LABEL if "annot/" in name or "_label" in name else IMAGE)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    stems = ("d010_000007", "d002_024703", "d002_003541")
    write(tmp_path, *(f"{folder}/{stem}.png" for folder in ("train", "trainannot") for stem in stems))
    return tmp_path


@pytest.fixture
def published(tmp_path: Path) -> Path:
    for drive, frame in (("10", "000007"), ("2", "024703"), ("2", "003541")):
        write(
            tmp_path,
            f"leftImg8bit/train/{drive}/{frame}_image.jpg",
            f"gtFine/train/{drive}/{frame}_label.png",
            f"gtFine/train/{drive}/{frame}_inst_label.png",
        )
    return tmp_path


def test_flat_images_come_by_drive_and_number(flat: Path) -> None:
    items = idd_lite(flat)

    assert [(item.sequence, item.frame) for item in items] == [("d002", 3541), ("d002", 24703), ("d010", 7)]
    assert items[0].label == flat / "trainannot/d002_003541.png"
    assert read_label(items[0].label).tolist() == [[6] * 6] * 4


def test_published_images_come_by_drive_and_number(published: Path) -> None:
    items = idd_lite(published)

    assert [(item.sequence, item.frame) for item in items] == [("10", 7), ("2", 3541), ("2", 24703)]
    assert items[0].label == published / "gtFine/train/10/000007_label.png"


def test_ids_that_it_does_not_have_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(np.full((2, 2), 7, np.uint8)))

    with pytest.raises(LabelError, match=r"a\.png: .*ids 7 in 4 pixels; allowed are 0 to 6"):
        read_label(path)
    assert len(IDD_LITE_CLASSES) == 7


def test_what_is_missing_is_named(flat: Path) -> None:
    with pytest.raises(DatasetError, match=r"no folder .*/val: .*images"):
        idd_lite(flat, ("val",))
    write(flat, "train/d011_000001.png")
    with pytest.raises(DatasetError, match=r"expected .*trainannot/d011_000001\.png"):
        idd_lite(flat)
    (flat / "train/d011_000001.png").rename(flat / "train/holiday.png")
    with pytest.raises(DatasetError, match=r"holiday\.png: a name is d<drive>_<frame>"):
        idd_lite(flat)


def test_what_is_missing_of_the_published_layout_is_named(published: Path) -> None:
    write(published, "leftImg8bit/train/3/000001_image.jpg")
    with pytest.raises(DatasetError, match=r"expected .*gtFine/train/3/000001_label\.png"):
        idd_lite(published)
    folder = published / "leftImg8bit/train/3"
    (folder / "000001_image.jpg").rename(folder / "a.jpg")
    with pytest.raises(DatasetError, match=r"a\.jpg: a name is <frame>_image\.jpg"):
        idd_lite(published)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no DANCE_IDD_LITE_DIR and no ../shared/idd_lite")
def test_the_data_set_itself() -> None:
    items = idd_lite(SHARED)

    assert len({item.sequence for item in items}) == 309
    assert len(items) == 1403
    assert set(np.unique(read_label(items[0].label))) <= {*range(7), 255}
