from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest

from dance_ondevice.datasets.cityscapes import NINETEEN_CLASSES
from dance_ondevice.datasets.idd_lite import IDD_LITE_CLASSES
from dance_ondevice.datasets.listing import DatasetError, LabelledImage, with_plain_labels
from dance_ondevice.datasets.registry import DATASET_NAMES, open_dataset
from dance_ondevice.images.codec import decode_label, encode_png
from dance_ondevice.images.labels import IGNORE, STREET_CLASSES

PIXEL = encode_png(np.zeros((2, 3, 3), np.uint8))
#: Image, label and the label's content, all of which mean the last class but one; and the classes.
TREES = {
    "camvid": ("s/A_1.png", "sannot/A_1.png", np.full((2, 3), 9, np.uint8), STREET_CLASSES),
    "camvid32": (
        "s/A_1.png",
        "s_labels/A_1_L.png",
        np.full((2, 3, 3), (30, 20, 10), np.uint8),
        ("Car", "Wall"),
    ),
    "cityscapes": (
        "leftImg8bit/s/ulm/ulm_1_2_leftImg8bit.png",
        "gtFine/s/ulm/ulm_1_2_gtFine_labelIds.png",
        np.full((2, 3), 32, np.uint8),
        NINETEEN_CLASSES,
    ),
    "bdd100k": (
        "images/10k/s/a.png",
        "labels/sem_seg/masks/s/a.png",
        np.full((2, 3), 17, np.uint8),
        NINETEEN_CLASSES,
    ),
    "acdc": (
        "rgb_anon/fog/s/GOPR1/GOPR1_frame_000041_rgb_anon.png",
        "gt/fog/s/GOPR1/GOPR1_frame_000041_gt_labelTrainIds.png",
        np.full((2, 3), 17, np.uint8),
        NINETEEN_CLASSES,
    ),
    "idd_lite": ("s/d001_041.png", "sannot/d001_041.png", np.full((2, 3), 5, np.uint8), IDD_LITE_CLASSES),
}


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_each_lists_its_images_and_reads_its_labels(name: str, tmp_path: Path) -> None:
    image, label, content, classes = TREES[name]
    for path, data in ((image, PIXEL), (label, encode_png(content))):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(data)
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nCar,10,20,30\nWall,1,2,3\nVoid,0,0,0\n")

    found = open_dataset(name, tmp_path, ("fog",) if name == "acdc" else ())

    assert (found.name, found.classes) == (name, classes)
    (item,) = found.images(("s",))
    assert (item.image, item.label) == (tmp_path / image, tmp_path / label)
    assert found.read_label(item.label).tolist() == [[len(classes) - 2] * 3] * 2


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"'kitti'; choose one of camvid, camvid32, cityscapes, bdd100k, acdc, idd_lite"
    ):
        open_dataset("kitti", tmp_path)


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_a_split_without_a_labelled_pixel_is_an_error(name: str, tmp_path: Path) -> None:
    """Cityscapes, for one, publishes its test labels as dummies of the ids 0, 1 and 3."""
    image, label, content, _ = TREES[name]
    dummies = {"camvid": 11, "camvid32": (0, 0, 0), "cityscapes": 3}.get(name, IGNORE)
    other = {"camvid": "A_2", "camvid32": "A_2", "cityscapes": "ulm_1_3", "idd_lite": "d001_042"}
    other |= {"bdd100k": "b", "acdc": "GOPR1_frame_000042"}
    stem = {"camvid": "A_1", "camvid32": "A_1", "cityscapes": "ulm_1_2", "idd_lite": "d001_041"}
    stem |= {"bdd100k": "a", "acdc": "GOPR1_frame_000041"}
    for path in (image, image.replace(f"/{stem[name]}", f"/{other[name]}")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(PIXEL)
    for path in (label, label.replace(f"/{stem[name]}", f"/{other[name]}")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(encode_png(np.full_like(content, dummies)))
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nCar,10,20,30\nWall,1,2,3\nVoid,0,0,0\n")
    dataset = open_dataset(name, tmp_path, ("fog",) if name == "acdc" else ())

    with pytest.raises(DatasetError, match=r"no pixel of the split 's' is labelled \(2 masks"):
        dataset.images(("s",))
    # One labelled pixel anywhere is enough, also in the last mask.
    (tmp_path / path).write_bytes(encode_png(content))
    assert len(dataset.images(("s",))) == 2


def test_only_acdc_tells_conditions_apart(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="camvid does not distinguish conditions; only acdc"):
        open_dataset("camvid", tmp_path, ("fog",))


def labelled(path: Path, value: int) -> LabelledImage:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode_png(np.full((2, 2), value, np.uint8)))
    return LabelledImage(image=path, label=path, sequence="a", frame=0)


def test_plain_labels_are_written_once_and_in_order(tmp_path: Path) -> None:
    items = [labelled(tmp_path / "b.png", 5), labelled(tmp_path / "a.png", 7)]
    calls = []

    def read(path: Path) -> np.ndarray:
        calls.append(path.name)
        return decode_label(path.read_bytes()) + np.uint8(1)

    for _ in range(2):
        plain = with_plain_labels(items, read, tmp_path / "made" / "here")
    assert [item.image for item in plain] == [item.image for item in items]
    assert [int(decode_label(item.label.read_bytes())[0, 0]) for item in plain] == [6, 8]
    assert calls == ["b.png", "a.png"]
    assert sorted(path.name for path in (tmp_path / "made" / "here").iterdir()) == ["a.png", "b.png"]


def test_labels_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    items = [labelled(tmp_path / "one" / "a.png", 1), labelled(tmp_path / "two" / "a.png", 2)]
    with pytest.raises(ValueError, match=r"two/a\.png and .*one/a\.png would share .*plain/a\.png"):
        with_plain_labels(items, lambda path: decode_label(path.read_bytes()), tmp_path / "plain")


#: Waits for a line on stdin, so that all writers begin at once.
WRITER = """
import sys
from pathlib import Path
import numpy as np
from dance_ondevice.datasets.idd_lite import IDD_LITE_CLASSES
from dance_ondevice.datasets.listing import DatasetError, LabelledImage, with_plain_labels

folder = Path(sys.argv[1])
items = [LabelledImage(image=p, label=p, sequence="a", frame=n) for n in range(200)
         for p in [folder / f"{n}.png"]]
print("ready", flush=True)
sys.stdin.readline()
with_plain_labels(items, lambda path: np.zeros((2, 2), np.uint8), folder)
"""


def test_processes_may_share_a_folder_of_plain_labels(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with ExitStack() as stack:
        writers = [
            stack.enter_context(subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True))
            for _ in range(3)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
        assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [("", 0)] * 3
    assert len(list(tmp_path.iterdir())) == 200
