from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest

from dance_ondevice.datasets.cityscapes import NINETEEN_CLASSES
from dance_ondevice.datasets.listing import LabelledImage, with_plain_labels
from dance_ondevice.datasets.registry import DATASET_NAMES, open_dataset
from dance_ondevice.images.codec import decode_label, encode_png
from dance_ondevice.images.labels import STREET_CLASSES

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
}


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_each_lists_its_images_and_reads_its_labels(name: str, tmp_path: Path) -> None:
    image, label, content, classes = TREES[name]
    for path, data in ((image, PIXEL), (label, encode_png(content))):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(data)
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nCar,10,20,30\nWall,1,2,3\nVoid,0,0,0\n")

    found = open_dataset(name, tmp_path)

    assert (found.name, found.classes) == (name, classes)
    (item,) = found.images(("s",))
    assert (item.image, item.label) == (tmp_path / image, tmp_path / label)
    assert found.read_label(item.label).tolist() == [[len(classes) - 2] * 3] * 2


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'kitti'; choose one of camvid, camvid32, cityscapes, bdd100k"):
        open_dataset("kitti", tmp_path)


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
from dance_ondevice.datasets.listing import LabelledImage, with_plain_labels

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
