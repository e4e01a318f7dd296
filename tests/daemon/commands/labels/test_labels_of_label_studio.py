"""Label Studio's types of region, and the names by which tools give images back."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

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
    polygon,
    task,
    write,
)
from numpy.typing import NDArray
from tool_scene import NAMES, truth

from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.images.codec import encode_png

TOOLS = Path(__file__).parents[3] / "label_formats" / "fixtures"


def url(mask: NDArray[np.uint8]) -> str:
    """A bitmask as the editor writes it: black on nothing."""
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[mask > 0] = (0, 0, 0, 255)
    return "data:image/png;base64," + base64.b64encode(encode_png(pixels)).decode()


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    "address",
    [
        "s3://b/{id}.jpg",
        "/data/local-files/?d=exp/images/{id}.jpg",
        "/data/local-files/?d=exp%5Cimages%5C{id}.jpg",
        "/data/upload/1/0a1b2c3d-{id}.jpg",
        "https://host/get?file={id}.jpg&w=1",
        r"C:\exp\{id}.jpg",
    ],
)
@pytest.mark.parametrize("camera", ["cam", "20250101", "deadbeef-x"])
def test_label_studio_names_a_sample_whatever_its_storage(
    address: str, camera: str, bring, store: Store, folder: Path
) -> None:
    sample = add(store, f"{camera}-1795944712000000-7", camera)
    export = [task(address.format(id=sample), polygon())]
    answer = bring(write(folder / "a.json", export))
    assert [each["sample"] for each in answer["results"]] == [sample]


@pytest.mark.usefixtures("daemon")
def test_the_upload_prefix_is_cut_in_every_format(bring, ids, folder: Path) -> None:
    assert bring(write(folder / "a.json", coco(f"0a1b2c3d-{ids[0]}.jpg", annotations=[CAR])))["imported"] == 1
    (folder / "a.json").write_text(
        f'<annotations><image id="0" name="x\\0a1b2c3d-{ids[1]}.jpg" width="32" height="24">'
        '<box label="car" xtl="0" ytl="0" xbr="8" ybr="8"/></image></annotations>'
    )
    assert bring(folder)["imported"] == 1
    (folder / "a.json").unlink()
    (folder / f"0a1b2c3d-{ids[2]}.png").write_bytes(label(3))
    assert bring(folder)["imported"] == 1


@pytest.mark.usefixtures("daemon")
def test_of_two_texts_the_one_that_ends_like_an_image_counts(bring, ids, folder: Path) -> None:
    data = {"source": "cam", "photo": f"/data/upload/1/0a1b2c3d-{ids[0]}.jpg"}
    answer = bring(write(folder / "a.json", [task(data, polygon())]))
    assert [each["sample"] for each in answer["results"]] == [ids[0]]


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("joined", [False, True])
def test_bitmasks_are_read(joined: bool, bring, ids, folder: Path, paths: StatePaths) -> None:
    drawn = np.zeros(SIZE, np.uint8)
    drawn[14:] = 1
    value = {"imageDataURL": url(drawn)}
    regions: list[dict[str, Any]] = [{"type": "bitmasklabels", "value": {**value, "bitmasklabels": ["road"]}}]
    if joined:
        regions = [
            {"id": "a", "type": "bitmask", "value": value},
            {"id": "a", "type": "labels", "value": {**value, "labels": ["road"]}},
        ]
    bring(write(folder / "a.json", [task(f"{ids[0]}.jpg", polygon(), *regions)]))
    mask = mask_of(paths, ids[0])
    assert mask is not None
    assert np.all(mask[14:] == NAMES.index("road"))
    assert np.all(mask[:12, :16] == NAMES.index("car"))


@pytest.mark.usefixtures("daemon")
def test_a_brush_and_its_labels_are_joined_by_their_id(bring, ids, folder: Path, paths: StatePaths) -> None:
    (first, *_) = json.loads((TOOLS / "labelstudio-brush-1.json").read_text())
    joined = []
    for result in first["annotations"][0]["result"]:
        value = {"format": "rle", "rle": result["value"]["rle"]}
        joined.append({**result, "type": "brush", "value": value})
        labels = {**value, "labels": result["value"]["brushlabels"]}
        joined.append({**result, "type": "labels", "value": labels})
        joined.append({"id": result["id"], "type": "choices", "value": {"choices": ["sure"]}})
    bring(write(folder / "a.json", [task(f"{ids[0]}.jpg", *joined)]))
    np.testing.assert_array_equal(mask_of(paths, ids[0]), truth(0))


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("region", "told"),
    [
        ({"type": "vectorlabels", "value": {"vectorlabels": ["car"]}}, "vectorlabels"),
        ({"type": "magiclabels", "value": {"magiclabels": ["car"]}}, "magiclabels"),
        ({"type": "brush", "id": "a", "value": {"format": "rle", "rle": []}}, "brush has no class"),
        ({"type": "labels", "id": "a", "value": {"labels": ["car"]}}, "labels has no shape"),
        (
            {"type": "bitmasklabels", "value": {"imageDataURL": "data:,x", "bitmasklabels": ["car"]}},
            "bitmask",
        ),
        (
            {
                "type": "bitmasklabels",
                "value": {"imageDataURL": url(np.zeros(SIZE, np.uint8)), "bitmasklabels": ["car"]},
            },
            "no pixel",
        ),
    ],
)
def test_a_region_that_cannot_be_read_refuses_its_task_and_names_the_type(
    *, region: dict[str, Any], told: str, bring, ids, store: Store, folder: Path, paths: StatePaths
) -> None:
    guard(store, ids[:1])
    answer = bring(write(folder / "a.json", [task(f"{ids[0]}.jpg", polygon(), region)]), code=1)
    assert told in answer["results"][0]["error"]
    assert np.all(mask_of(paths, ids[0]) == SENTINEL)


@pytest.mark.usefixtures("daemon")
def test_predictions_alone_are_nobodys_labels(refuse, ids, folder: Path) -> None:
    export = [
        {"id": 1, "data": {"image": f"{ids[0]}.jpg"}, "annotations": [], "predictions": [{"result": []}]}
    ]
    said = refuse(write(folder / "a.json", export))
    assert "lists no labelled image" in said
    assert "predictions" in said


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    "document",
    [
        {"images": [], "annotations": [], "categories": []},
        {
            "images": [{"id": 1, "file_name": "a.jpg", "width": None, "height": None}],
            "annotations": [],
            "categories": [],
        },
    ],
)
def test_a_file_without_a_labelled_image_is_no_success(document: Any, refuse, ids, folder: Path) -> None:
    assert "lists no labelled image" in refuse(write(folder / "a.json", document))


@pytest.mark.usefixtures("daemon")
def test_points_that_a_model_drew_by_cost_the_drawing_nothing(
    bring, ids, folder: Path, paths: StatePaths
) -> None:
    point = {"x": 1, "y": 2, "width": 0.3}
    results = [
        {"type": "keypointlabels", "id": "a", "value": {**point, "keypointlabels": ["pedestrian"]}},
        {"type": "keypoint", "id": "b", "value": point},
        {"type": "labels", "id": "b", "value": {**point, "labels": ["pedestrian"]}},
    ]
    both = task(f"{ids[0]}.jpg", *results, polygon())
    # Of others, who drew nothing.
    choice = {"type": "choices", "id": "c", "value": {"choices": ["sharp"]}}
    both["annotations"] += [{"result": []}, {"result": [choice, *results]}]
    answer = bring(write(folder / "a.json", [both, task(f"{ids[1]}.jpg", *results)]), code=1)
    assert [each["action"] for each in answer["results"]] == ["refused", "new"]
    assert "only points" in answer["results"][0]["error"]
    assert any("2 keypoint" in note for note in answer["notes"])
    assert any("1 tasks have several annotations" in note for note in answer["notes"])
    assert set(np.unique(mask_of(paths, ids[0]))) == {NAMES.index("car"), 255}
