"""What a base model is trained on: each data set, and a user's own folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from palette_png import palette_png

from dance_ondevice.benchmarks import indicators
from dance_ondevice.daemon.cli import main
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.datasets.registry import DATASET_NAMES, open_dataset
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import decode_label, encode_jpeg, encode_png
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.models.card import read_card
from dance_ondevice.training.base_images import HELD_OUT, BaseImages, from_dataset, from_folders

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 48, 64
QUICK = ("--size", f"{WIDTH}x{HEIGHT}", "--epochs", "1", "--batch-size", "2", "--precision", "fp32", "--json")


def lay(name: str, root: Path, count: int = 3) -> None:
    """A data set of a few street frames in two splits, in its own layout and coding."""
    for split in ("train", "val"):
        for number in range(count):
            image, label = StreetCamera(seed=number, height=HEIGHT, width=WIDTH).render(number, "day")
            ids = np.minimum(label, 6)
            files = {
                "camvid": (f"{split}/S_{number}.png", f"{split}annot/S_{number}.png", ids),
                "camvid32": (f"{split}/S_{number}.png", f"{split}_labels/S_{number}_L.png", None),
                "cityscapes": (
                    f"leftImg8bit/{split}/ulm/ulm_0_{number}_leftImg8bit.png",
                    f"gtFine/{split}/ulm/ulm_0_{number}_gtFine_labelIds.png",
                    ids + np.uint8(19),
                ),
                "bdd100k": (
                    f"seg/images/{split}/{number}.jpg",
                    f"seg/labels/{split}/{number}_train_id.png",
                    ids,
                ),
                "acdc": (
                    f"rgb_anon/fog/{split}/G/G_frame_{number}_rgb_anon.png",
                    f"gt/fog/{split}/G/G_frame_{number}_gt_labelTrainIds.png",
                    ids,
                ),
                "idd_lite": (f"{split}/d001_{number}.jpg", f"{split}annot/d001_{number}.png", ids),
            }[name]
            colours = np.stack([ids, ids, ids * np.uint8(10)], axis=2)  # BGR
            content = colours if files[2] is None else files[2]
            for path, data in (
                (files[0], encode_jpeg(image) if files[0].endswith("jpg") else encode_png(image)),
                (files[1], encode_png(content)),
            ):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(data)
    table = "".join(f"class{n},{10 * n},{n},{n}\n" for n in range(7))
    (root / "class_dict.csv").write_text(f"name,r,g,b\n{table}")


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_every_data_set_is_taken_with_labels_that_training_can_read(name: str, tmp_path: Path) -> None:
    lay(name, tmp_path / "root")
    conditions = ("fog",) if name == "acdc" else ()
    dataset = open_dataset(name, tmp_path / "root", conditions)

    found = from_dataset(dataset, ("train",), ("val",), conditions=conditions, folder=tmp_path / "plain")

    assert (len(found.train), len(found.validation["val"])) == (3, 3)
    for sample in found.train:
        ids = set(np.unique(decode_label(sample.label.read_bytes()))) - {IGNORE, *sample.void}
        assert ids
        assert max(ids) < len(dataset.classes)
    told = {"name": name, "splits": ["train"], "sequences": []}
    assert found.description == told | ({"conditions": ["fog"]} if conditions else {})


def test_sequences_are_chosen_or_named(tmp_path: Path) -> None:
    lay("cityscapes", tmp_path / "root")
    dataset = open_dataset("cityscapes", tmp_path / "root")

    chosen = from_dataset(dataset, ("train",), (), sequences=("ulm_0",), folder=tmp_path / "plain")
    assert len(chosen.train) == 3
    with pytest.raises(DatasetError, match="no images of bonn_1 in train; there are ulm_0"):
        from_dataset(dataset, ("train",), (), sequences=("ulm_0", "bonn_1"), folder=tmp_path / "plain")


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Folders of images and labels by name and id; no id for no label."""

    def make(**ids: int | None) -> tuple[Path, Path]:
        images, labels = tmp_path / "images", tmp_path / "labels"
        for folder in (images, labels):
            folder.mkdir()
        for name, number in ids.items():
            (images / f"{name}.jpg").write_bytes(encode_jpeg(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
            if number is not None:
                label = np.full((HEIGHT, WIDTH), number, np.uint8)
                (labels / f"{name}.png").write_bytes(encode_png(label))
        return images, labels

    return make


def taken(images: Path, labels: Path, hold_out: float) -> BaseImages:
    return from_folders(images, labels, ("x", "y"), hold_out, folder=images.parent)


def test_own_images_are_held_out_by_name_and_number(own: Callable[..., tuple[Path, Path]]) -> None:
    images, labels = own(b_10=0, b_9=1, a_1=0, a_2=IGNORE, unlabelled=None)

    found = taken(images, labels, hold_out=0.25)

    assert [sample.image.stem for sample in found.train] == ["a_1", "a_2", "b_9"]
    assert [sample.label.name for sample in found.validation[HELD_OUT]] == ["b_10.png"]
    assert taken(images, labels, hold_out=0.0).validation == {}
    assert found.notes == (f"1 of 5 images have no label and are left out, such as {images}/unlabelled.jpg",)


def test_folders_below_and_one_folder_for_both_are_read(own: Callable[..., tuple[Path, Path]]) -> None:
    images, labels = own(a_1=0, a_2=1)
    for folder in (images, labels):
        for file in [*folder.iterdir()]:
            (folder / "north").mkdir(exist_ok=True)
            shutil.copy(file, folder / "north" / file.name)
    (labels / "a_1.png").rename(labels / "a_1.PNG")
    found = taken(images, labels, hold_out=0.0)
    assert [sample.label.relative_to(labels) for sample in found.train] == [
        Path(name) for name in ("a_1.PNG", "a_2.png", "north/a_1.png", "north/a_2.png")
    ]
    for label in (labels / "north").iterdir():
        shutil.copy(label, images / "north")
    both = taken(images / "north", images / "north", hold_out=0.0)
    assert [sample.image.name for sample in both.train] == ["a_1.jpg", "a_2.jpg"]
    with pytest.raises(DatasetError, match=r"a_1\.jpg and .*/a_1\.png would share the label .*/a_1\.png"):
        taken(images / "north", labels / "north", hold_out=0.0)


def test_labels_of_other_kinds_are_copied_as_ids_or_named(own: Callable[..., tuple[Path, Path]]) -> None:
    images, labels = own(a_1=0, a_2=1, a_3=0)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[:, 2:] = 1
    (labels / "a_1.png").write_bytes(palette_png(ids, [(0, 0, 0), (128, 0, 0)]))
    (labels / "a_2.png").write_bytes(encode_png(np.dstack([ids] * 3)))
    found = taken(images, labels, hold_out=0.0)
    for sample in found.train[:2]:
        assert (decode_label(sample.label.read_bytes()) == ids).all()
    (labels / "a_2.png").write_bytes(encode_png(np.dstack([ids, ids, 7 * ids])))
    with pytest.raises(DatasetError, match=r"a_2\.png: its pixels are colours"):
        taken(images, labels, hold_out=0.0)


def test_labels_of_one_class_alone_are_told(own: Callable[..., tuple[Path, Path]]) -> None:
    images, labels = own(a_1=0)
    told = "no label shows y: nothing is learnt of that"
    assert taken(images, labels, hold_out=0.0).notes == (told,)
    drawn = IGNORE * np.eye(HEIGHT, WIDTH, dtype=np.uint8)
    (labels / "a_1.png").write_bytes(encode_png(drawn))
    with pytest.raises(DatasetError, match="hold 0 and 255 alone"):
        taken(images, labels, hold_out=0.0)


def test_a_label_that_cannot_be_used_is_named_with_the_classes(own: Callable[..., tuple[Path, Path]]) -> None:
    images, labels = own(a_1=0, a_2=2)

    with pytest.raises(DatasetError, match=r"a_2\.png: .*ids 2 .*; the classes are 0 x, 1 y"):
        taken(images, labels, hold_out=0.2)
    (labels / "a_2.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"a_2\.png"):
        taken(images, labels, hold_out=0.2)


def test_a_label_of_other_proportions_is_refused(own: Callable[..., tuple[Path, Path]]) -> None:
    """It was stretched over its image, and the model learnt what that gives."""
    images, labels = own(a_1=0, a_2=1)
    reduced = np.zeros((-(-HEIGHT // 3), -(-WIDTH // 3)), np.uint8)
    (labels / "a_2.png").write_bytes(encode_png(reduced))
    assert len(taken(images, labels, hold_out=0.0).train) == 2
    (labels / "a_2.png").write_bytes(encode_png(np.zeros((HEIGHT, WIDTH + 4), np.uint8)))
    sizes = f"{WIDTH + 4}x{HEIGHT} pixels, its image {WIDTH}x{HEIGHT}"
    with pytest.raises(DatasetError, match=rf"a_2\.png is {sizes}"):
        taken(images, labels, hold_out=0.2)
    (labels / "a_2.png").write_bytes(encode_png(np.zeros((HEIGHT, WIDTH), np.uint8)))
    (images / "a_2.jpg").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"images/a_2\.jpg: "):
        taken(images, labels, hold_out=0.2)


def test_folders_without_pairs_say_how_names_go_together(own: Callable[..., tuple[Path, Path]]) -> None:
    images, labels = own(a_1=None)

    with pytest.raises(DatasetError, match=r"no image in .*/images has a label: that of a\.jpg is .*/a\.png"):
        taken(images, labels, hold_out=0.2)
    with pytest.raises(DatasetError, match=r"no folder .*/none"):
        taken(images.with_name("none"), labels, hold_out=0.2)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("--dataset camvid|camvid32|cityscapes|bdd100k|acdc|idd_lite|street", "--images")),
        (("--dataset", "kitti"), ("'kitti'", "idd_lite")),
        (("--dataset", "acdc"), ("--root",)),
        (("--dataset", "cityscapes", "--root", ".", "--conditions", "fog"), ("--dataset acdc|street",)),
        (("--dataset", "camvid", "--root", ".", "--images", "."), ("exclude each other",)),
        (("--images", "."), ("--images and --labels go together",)),
        (("--images", ".", "--labels", "."), ("--config FILE", "model.classes")),
        (("--images", ".", "--labels", ".", "--root", "."), ("--root goes with --dataset camvid|",)),
        (("--dataset", "street", "--hold-out", "0.5"), ("--hold-out goes with --images and --labels",)),
    ],
)
def test_wrong_usage_says_what_goes_together(
    arguments: tuple[str, ...], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DANCE_CONFIG", raising=False)
    result = run("pretrain", *arguments, "--out", tmp_path / "base")

    assert result.exit_code == 2, result.output
    output = " ".join(result.output.split())
    assert all(word in output for word in words), output
    assert not (tmp_path / "base").exists()


@pytest.mark.slow
def test_a_base_of_nineteen_classes_serves_the_indicators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indicators, "_TIMED_CALLS", 2)
    lay("acdc", tmp_path / "root")
    dataset = ("--dataset", "acdc", "--root", tmp_path / "root", "--conditions", "fog")

    made = run("pretrain", *dataset, "--validate", "val", *QUICK, "--out", tmp_path / "base")
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)["training"]
    assert told["dataset"]["conditions"] == ["fog"]
    assert told["validation"]["val"]["samples"] == 3
    assert len(read_card(tmp_path / "base").classes) == 19
    measured = run("bench", "indicators", *dataset, "--model", tmp_path / "base", "--split", "val", "--json")
    assert measured.exit_code == 0, measured.output
    assert json.loads(measured.stdout)["dataset"] == "acdc"


def test_the_split_that_indicators_measure_on_must_have_labels(tmp_path: Path) -> None:
    lay("cityscapes", tmp_path / "root")
    for file in (tmp_path / "root/gtFine/val/ulm").iterdir():
        file.write_bytes(encode_png(np.full((HEIGHT, WIDTH), 3, np.uint8)))

    result = run(
        *("bench", "indicators", "--dataset", "cityscapes", "--root", tmp_path / "root"),
        *("--model", tmp_path, "--split", "val"),
    )

    assert result.exit_code == 2
    assert "no pixel of the split 'val' is labelled" in " ".join(result.output.split())
