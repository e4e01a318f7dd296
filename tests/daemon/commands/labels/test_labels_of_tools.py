"""What real labelling tools wrote: back exactly, or refused with the way out."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from label_imports import (
    CAR,
    SENTINEL,
    SIZE,
    add,
    coco,
    guard,
    label,
    mask_of,
    rows,
    write,
    zipped,
)
from tool_scene import DRAWN, truth

from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.images.codec import encode_jpeg, encode_png

TOOLS = Path(__file__).parents[3] / "label_formats" / "fixtures"


EXACT = (
    *("datumaro-coco", "datumaro-cvat", "datumaro-voc_segmentation-coloured", "datumaro-camvid-coloured"),
    *("datumaro-cityscapes-coloured", "datumaro-cityscapes"),
    *("labelstudio-brush-255.json", "labelstudio-brush-1.json"),
    *("pycocotools-compressed.json", "pycocotools-plain.json"),
)


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("name", EXACT)
def test_what_a_tool_wrote_comes_back_exactly_and_loses_nothing(
    name: str, bring, scene, store: Store, paths: StatePaths
) -> None:
    guard(store, scene)
    answer = bring(TOOLS / name)
    assert (answer["imported"], answer["refused"], answer["replaced"]) == (2, 0, 2)
    for number, sample in enumerate(scene):
        found = mask_of(paths, sample)
        expected = truth(number) if sample in DRAWN else np.full(SIZE, SENTINEL)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("name", ["labelstudio-brush-contour.json", "labelstudio-brush-to-coco"])
def test_outlines_come_back_as_nearly_as_the_tool_wrote_them(
    name: str, bring, scene, paths: StatePaths
) -> None:
    assert bring(TOOLS / name)["imported"] == 2
    found = mask_of(paths, scene[0])
    assert found is not None
    assert np.mean(found == truth(0)) > 0.75


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("name", ["datumaro-coco", "datumaro-voc_segmentation-coloured"])
@pytest.mark.parametrize("where", ["zip", "in the export's folder", "unpacked in the export's folder"])
def test_a_tools_zip_is_read_as_it_comes(
    *, name: str, where: str, bring, scene, folder: Path, paths: StatePaths
) -> None:
    (folder / "labels").mkdir()
    (folder / "images").mkdir()
    (folder / "images" / f"{scene[0]}.png").write_bytes(encode_png(np.full((*SIZE, 3), 90, np.uint8)))
    (folder / "manifest.json").write_text("{}")
    if where == "unpacked in the export's folder":
        with zipfile.ZipFile(zipped(TOOLS / name, folder.parent / "tool.zip")) as archive:
            archive.extractall(folder)
        path = folder
    else:
        path = zipped(TOOLS / name, folder / "tool.zip")
    assert bring(folder if where.startswith("in ") else path)["imported"] == 2
    np.testing.assert_array_equal(mask_of(paths, scene[1]), truth(1))


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("labelstudio-brush-coco", ["lists no labelled image"]),
        ("labelstudio-brush-png", ['export as "JSON"']),
        ("datumaro-coco_image_info", ["lists no labelled image"]),
        ("datumaro-coco/annotations/panoptic_default.json", ["panoptic", "instances"]),
        ("datumaro-voc_segmentation", ["labelmap.txt beside it names no colours", "COCO"]),
        ("datumaro-kitti_segmentation", ["16-bit", "COCO"]),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_way_out(
    *, name: str, told: list[str], refuse, scene, store: Store, paths: StatePaths
) -> None:
    guard(store, scene)
    said = " ".join(refuse(TOOLS / name).split())
    for each in told:
        assert each in said
    assert {row["label_source"] for row in rows(paths).values()} == {"wire"}


@pytest.mark.usefixtures("daemon")
def test_the_real_tools_names_and_types_are_in_the_report(bring, scene) -> None:
    answer = bring(TOOLS / "datumaro-coco", "--dry-run")
    assert any("panoptic" in note for note in answer["notes"])


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("layout", ["masks", "roboflow", "coco"])
def test_a_label_of_another_picture_is_refused_by_the_picture_beside_it(
    *, layout: str, bring, store: Store, folder: Path, paths: StatePaths
) -> None:
    def scene(seed: int) -> np.ndarray:
        coarse = np.random.default_rng(seed).integers(30, 200, (6, 8, 3))
        return np.kron(coarse, np.ones((4, 4, 1), np.int64)).astype(np.uint8)

    own = scene(1)
    beside = {
        0: own,
        1: np.minimum(own.astype(np.uint16) * 5 // 4 + 20, 255).astype(np.uint8),
        2: own[:, ::-1],
        3: own[::-1, ::-1],
        4: scene(2),
        5: own,
        6: own[::-1, ::-1],  # its sender obeyed the orientation that the file has
    }
    ids = [add(store, f"front-170000000000000{n}-{n}", "front", encode_jpeg(own, 90 + n)) for n in beside]
    drawn = ["labels", "images"] if layout == "masks" else ["train", "train"]
    ending = "_jpg.rf.0a1b" if layout == "roboflow" else ""
    for each in {*drawn}:
        (folder / each).mkdir()
    # Upside down, as programs that obey it show it and draw on it.
    exif = b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"
    for number, picture in beside.items():
        jpeg = encode_jpeg(np.ascontiguousarray(picture))
        jpeg = jpeg[:2] + exif + jpeg[2:] if number >= 5 else jpeg
        (folder / drawn[1] / f"{ids[number]}{ending}.jpg").write_bytes(jpeg)
        if layout != "coco":
            (folder / drawn[0] / f"{ids[number]}{ending}_mask.png").write_bytes(label(3))
    if layout == "coco":
        names = [f"{each}.jpg" for each in ids]
        write(
            folder / "train" / "_annotations.coco.json",
            coco(*names, annotations=[{**CAR, "id": n, "image_id": n} for n in range(1, 8)]),
        )
    answer = bring(folder, code=1)
    assert (answer["imported"], answer["refused"]) == (3, 4)
    why = {each["sample"]: each["error"] for each in answer["results"] if each["error"]}
    assert ["mirrored or turned" in why[ids[n]] for n in (2, 3, 4)] == [True, True, False]
    assert "something else" in why[ids[4]]
    assert "EXIF orientation 3" in why[ids[5]]


@pytest.mark.usefixtures("daemon")
def test_a_file_that_is_no_label_costs_the_labels_beside_it_nothing(
    bring, refuse, ids, folder: Path, paths: StatePaths
) -> None:
    (folder / f"{ids[0]}.png").write_bytes(label(3))
    (folder / f"{ids[0]}.png.aux.xml").write_text("<PAMDataset/>")  # as GDAL and QGIS write them
    assert bring(folder)["imported"] == 1
    (folder / "half.json").write_text('{"images": [')
    (folder / "a.json").write_text(json.dumps(coco(f"{ids[1]}.jpg", annotations=[CAR])))
    answer = bring(folder, code=1)
    assert [(each["file"], each["action"]) for each in answer["results"] if each["error"]] == [
        ("half.json", "refused")
    ]
    assert answer["imported"] == 1
    for each in (folder / f"{ids[0]}.png", folder / "a.json"):
        each.unlink()
    assert "half.json: no JSON" in refuse(folder)
