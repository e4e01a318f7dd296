"""COCO, CVAT and Label Studio files, from their bytes to masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.label_formats import regions
from dance_ondevice.label_formats.coco import read_coco
from dance_ondevice.label_formats.cvat import read_cvat
from dance_ondevice.label_formats.label_studio import read_label_studio
from dance_ondevice.label_formats.reader import read_bytes
from dance_ondevice.label_formats.regions import Export, FormatError

IDS = {"car": 1, "road": 2}


def coco(*annotations: dict[str, Any], **image: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "some/folder/front-1-1.jpg", "width": 8, "height": 6, **image}],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "road"}],
        "annotations": [{"image_id": 7, **annotation} for annotation in annotations],
    }


def mask_of(export: Export) -> np.ndarray[Any, Any]:
    assert not export.refused
    (image,) = export.images
    return regions.paint(image, IDS)


def test_coco_polygons_and_both_rles_end_in_one_mask() -> None:
    right = np.zeros((6, 8), np.bool_)
    right[:, 6:] = True
    export = read_coco(
        coco(
            {"category_id": 2, "segmentation": [[0, 3, 8, 3, 8, 6, 0, 6]]},
            {"category_id": 1, "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]]},
            {"category_id": 1, "segmentation": {"size": [6, 8], "counts": [36, 12]}},
            {"category_id": 2, "segmentation": {"size": [6, 8], "counts": "T11;"}},
        )
    )
    assert export.images[0].image == "front-1-1.jpg"
    mask = mask_of(export)
    expected = np.full((6, 8), 255)
    expected[3:] = 2
    expected[1:3, 1:4] = 1
    expected[:, 6:] = 1
    expected[0, 6] = 2  # "T11;": 36 background, 1 object, 11 background
    np.testing.assert_array_equal(mask, expected)


@given(
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.3, -0.3]),
)
def test_a_polygon_has_the_pixels_whose_middle_it_holds(
    left: int, top: int, wide: int, high: int, by: float
) -> None:
    mask = np.zeros((24, 24), np.uint8)
    right, bottom = left + wide, top + high
    corners = [
        (left + by, top + by),
        (right + by, top + by),
        (right + by, bottom + by),
        (left + by, bottom + by),
    ]
    regions.polygons([corners])(mask, 1)
    expected = np.zeros_like(mask)
    expected[top:bottom, left:right] = 1
    np.testing.assert_array_equal(mask, expected)


def test_a_ring_inside_another_is_a_hole() -> None:
    mask = np.zeros((40, 40), np.uint8)
    outer, inner = [(10, 10), (30, 10), (30, 30), (10, 30)], [(15, 15), (25, 15), (25, 25), (15, 25)]
    regions.polygons([outer, inner])(mask, 1)
    assert mask.sum() == 400 - 100
    assert mask[20, 20] == 0


def test_an_outline_of_a_large_image_is_no_larger_for_being_drawn_in_bands() -> None:
    mask = np.zeros((1500, 2500), np.uint8)
    regions.polygons([[(-9, 2), (2400, 2), (2400, 1490), (-9, 1490)]])(mask, 1)
    expected = np.zeros_like(mask)
    expected[2:1490, :2400] = 1
    np.testing.assert_array_equal(mask, expected)


def test_an_id_in_quotes_is_the_same_id() -> None:
    document = coco({"category_id": "1", "segmentation": [[0, 0, 4, 0, 4, 3]]})
    document["annotations"][0]["image_id"] = str(document["images"][0]["id"])
    (image,) = read_coco(document).images
    assert len(image.regions) == 1


def test_outlines_that_were_traced_along_pixels_hold_them_all() -> None:
    import cv2

    drawn = np.zeros((6, 8), np.uint8)
    drawn[1:5, 1:4] = drawn[2, 6] = drawn[3:5, 6:] = 1
    contours, _ = cv2.findContours(drawn, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rings = [contour.ravel().tolist() for contour in contours]
    annotation = {"category_id": 1, "segmentation": rings, "area": float(drawn.sum())}
    (image,) = read_coco(coco(annotation)).images
    np.testing.assert_array_equal(regions.paint(image, IDS) == 1, drawn == 1)


@pytest.mark.parametrize(
    ("inner", "area", "pixels"),
    [
        ([2, 2, 4, 2, 4, 4, 2, 4], None, 25),  # as pycocotools fills it
        ([2, 2, 4, 2, 4, 4, 2, 4], 25.0, 25),  # a group of polygons, as datumaro writes it
        ([2, 2, 4, 2, 4, 4, 2, 4], 21.0, 21),  # the edge of a hole
        ([4, 4, 6, 4, 6, 6, 4, 6], 28, 28),  # parts that overlap
        ([4, 4, 6, 4, 6, 6, 4, 6], None, 28),
        ([4, 4, 6.6, 4, 6.6, 6, 4, 6], None, 30),
    ],
)
def test_rings_of_coco_add_up_unless_their_area_tells_of_holes(
    inner: list[float], area: float | None, pixels: int
) -> None:
    outer = [0, 0, 5, 0, 5, 5, 0, 5]
    (image,) = read_coco(coco({"category_id": 1, "segmentation": [outer, inner], "area": area})).images
    assert np.count_nonzero(regions.paint(image, IDS) != 255) == pixels


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        ({"category_id": 3, "segmentation": [[0, 0, 1, 1, 2, 2]]}, "category 3"),
        ({"category_id": 1, "bbox": [0, 0, 1, 1]}, "only a box"),
        ({"category_id": 1, "segmentation": [[0, 0, 1, 1]]}, "three or more"),
        ({"category_id": 1, "segmentation": [[0, 0, 1, 1, 2]]}, "x, y"),
        ({"category_id": 1, "segmentation": [[0, 0, 1, 1, 2, float("nan")]]}, "not a position"),
        ({"category_id": 1, "segmentation": {"size": [8, 6], "counts": [48]}}, "size"),
    ],
)
def test_an_image_with_a_bad_annotation_is_refused_by_name(annotation: dict[str, Any], why: str) -> None:
    (refused,) = read_coco(coco(annotation)).refused
    assert refused.image == "front-1-1.jpg"
    assert why in refused.why


def test_annotations_of_images_that_were_taken_out_are_counted() -> None:
    document = coco({"category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 3]]})
    document["annotations"].append({**document["annotations"][0], "image_id": 77})
    export = read_coco(document)
    assert len(export.images[0].regions) == 1
    assert export.notes == ("1 annotations are for images that are not listed",)
    del document["annotations"][0]
    with pytest.raises(FormatError, match="77, which is not listed"):
        read_coco(document)


def test_a_run_length_code_that_does_not_fit_shows_when_it_is_painted() -> None:
    (image,) = read_coco(coco({"category_id": 1, "segmentation": {"size": [6, 8], "counts": [5]}})).images
    with pytest.raises(FormatError, match=r"front-1-1\.jpg.*5 pixels, the mask has 48"):
        regions.paint(image, IDS)


@pytest.mark.parametrize("size", [{"width": 0}, {"width": 10**9}, {"height": None}, {"height": True}])
def test_impossible_sizes_are_refused(size: dict[str, Any]) -> None:
    assert read_coco(coco(**size)).refused


CVAT = """<?xml version="1.0"?>
<annotations><version>1.1</version>
 <image id="0" name="set/front-1-1.jpg" width="8" height="6">
  <polygon label="car" z_order="1" points="0,0;4,0;4,3;0,3"></polygon>
  <box label="road" z_order="0" xtl="0" ytl="0" xbr="8" ybr="6"></box>
  <mask label="car" z_order="2" rle="1, 2, 1" left="5" top="4" width="2" height="2"></mask>
  <points label="car" points="1,1"></points>
 </image>
 <image id="1" name="empty.jpg" width="8" height="6"></image>
 <image id="2" name="bad.jpg" width="8" height="6"><polygon label="car" points="1"></polygon></image>
</annotations>"""


def test_cvat_paints_by_z_order_and_decodes_masks() -> None:
    export = read_cvat(CVAT.encode())
    assert [image.image for image in export.images] == ["front-1-1.jpg", "empty.jpg"]
    assert [(r.image, "points" in r.why) for r in export.refused] == [("bad.jpg", True)]
    mask = regions.paint(export.images[0], IDS)
    assert (mask[:3, :4] == 1).all()
    np.testing.assert_array_equal(mask[4:6, 5:7], [[2, 1], [1, 2]])
    assert (mask[:, 7] == 2).all()
    assert (regions.paint(export.images[1], IDS) == 255).all()


@pytest.mark.parametrize(
    "data",
    [
        b"<annotations>",
        b"<other/>",
        b'<!DOCTYPE a [<!ENTITY b "b">]><annotations/>',
        b"<annotations><track/></annotations>",
        b"<annotation><imagesize/></annotation>",
    ],
)
def test_what_is_no_cvat_for_images_says_so(data: bytes) -> None:
    with pytest.raises(FormatError):
        read_cvat(data)


def task(*results: dict[str, Any], image: str = "/data/upload/1/0a1b2c3d-front-1-1.jpg") -> dict[str, Any]:
    size = {"original_width": 8, "original_height": 6}
    return {
        "id": 3,
        "data": {"image": image},
        "annotations": [
            {"was_cancelled": True, "result": []},
            {"result": [{**size, **result} for result in results]},
        ],
    }


def test_label_studio_polygons_are_percent_and_names_lose_the_uploads_prefix() -> None:
    polygon = {"points": [[0, 0], [50, 0], [50, 50], [0, 50]], "polygonlabels": ["car"]}
    export = read_label_studio(
        [task({"type": "polygonlabels", "value": polygon}, {"type": "choices", "value": {}})]
    )
    assert export.images[0].image == "front-1-1.jpg"
    mask = mask_of(export)
    assert (mask[:3, :4] == 1).all()
    assert (mask[4:] == 255).all()


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("/data/local-files/?d=set/front-1-1.jpg", "front-1-1.jpg"),
        ("https://host/a%20b/front-1-1.jpg?x=1", "front-1-1.jpg"),
        ("/tasks/5/resolve/?fileuri=czM6Ly9idWNrZXQvc2V0L2Zyb250LTEtMS5qcGc=", "front-1-1.jpg"),
        ("/tasks/5/presign/?fileuri=\N{MICRO SIGN}", "presign"),
        ("front-1-1.jpg", "front-1-1.jpg"),
    ],
)
def test_label_studio_names_of_other_storages(image: str, name: str) -> None:
    value = {"x": 0, "y": 0, "width": 100, "height": 50, "rectanglelabels": ["road"]}
    export = read_label_studio([task({"type": "rectanglelabels", "value": value}, image=image)])
    assert export.images[0].image == name
    assert (mask_of(export)[:3] == 2).all()


@pytest.mark.parametrize(
    "result",
    [
        {"type": "polygonlabels", "value": {"points": [[0, 0]], "polygonlabels": ["car"]}},
        {"type": "polygonlabels", "value": {"points": "x", "polygonlabels": ["car"]}},
        {"type": "polygonlabels", "value": {"points": [[0, 0], [1, 1], [1, 0]], "polygonlabels": []}},
        {"type": "brushlabels", "value": {"brushlabels": ["car"]}},
        {"type": "polygonlabels", "original_width": 0, "value": {}},
    ],
)
def test_a_task_with_a_bad_region_is_refused(result: dict[str, Any]) -> None:
    export = read_label_studio([task(result)])
    assert [refused.image for refused in export.refused] == ["front-1-1.jpg"]


def test_the_format_is_told_from_the_content(tmp_path: Path) -> None:
    file = tmp_path / "export"
    polygon = {"points": [[0, 0], [50, 0], [50, 50]], "polygonlabels": ["car"]}
    for content in (
        json.dumps(coco({"category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 3]]})),
        CVAT,
        json.dumps([task({"type": "polygonlabels", "value": polygon})]),
    ):
        file.write_text(content)
        assert read_bytes(str(file), file.read_bytes()).images[0].image == "front-1-1.jpg"
    for content in ("{}", "[]", "nothing", "\x00"):
        file.write_text(content)
        with pytest.raises(FormatError, match="export"):
            read_bytes(str(file), file.read_bytes())


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ('{"info": {}, "categories": {}, "items": []}', "datumaro's JSON"),
        ('{"dm_format_version": "1.0", "infos": {}, "categories": {}, "items": []}', "datumaro's JSON"),
        ('{"front-1-1.jpg9": {"filename": "front-1-1.jpg", "regions": []}}', "VGG Image Annotator's JSON"),
        ('{"info": {"description": "ISAT"}, "objects": []}', "ISAT's JSON"),
        ('[{"image": "front-1-1.jpg", "annotations": []}]', "CreateML"),
        ('{"front": [{"id": 1}]}', "none of"),
        ("0 0.1 0.1 0.5 0.1 0.5 0.5\n", "YOLO"),
        ('[{"id": "a", "externalId": "front-1-1.jpg", "labels": []}]', "Kili's JSON"),
        ('{"type": "FeatureCollection", "features": []}', "GeoJSON"),
        ('{"data_row": {}, "projects": {}}\n{"data_row": {}, "projects": {}}\n', "one JSON document a line"),
    ],
)
def test_another_tools_json_is_called_by_its_name(tmp_path: Path, document: str, told: str) -> None:
    file = tmp_path / ("export.txt" if told == "YOLO" else "export.json")
    file.write_text(document)
    with pytest.raises(FormatError, match=f"{told}.* COCO"):
        read_bytes(str(file), file.read_bytes())


def drawn_on(**more: Any) -> dict[str, Any]:
    points = {"points": [[0, 0], [50, 0], [50, 50], [0, 50]], "polygonlabels": ["car"]}
    return {"type": "polygonlabels", "value": points, **more}


@pytest.mark.parametrize(
    ("results", "why"),
    [
        ((drawn_on(to_name="left"), drawn_on(to_name="right")), "several images of the task"),
        ((drawn_on(item_index=0), drawn_on(item_index=1)), "several pages of the task"),
        ((drawn_on(image_rotation=90),), "turned by 90 degrees"),
    ],
)
def test_drawings_on_several_images_or_a_turned_one_are_no_label(results: Any, why: str) -> None:
    (refused,) = read_label_studio([task(*results)]).refused
    assert why in refused.why


@pytest.mark.parametrize(
    ("data", "result"),
    [
        ({"left": "a-1-1.jpg", "right": "/data/upload/1/0a1b2c3d-front-1-1.jpg"}, drawn_on(to_name="right")),
        ({"pages": ["a-1-1.jpg", "s3://b/front-1-1.jpg"]}, drawn_on(item_index=1)),
        ({"image": "data:image/jpeg;base64,/9j/a.jpg"}, drawn_on()),
        ({"image": "/tasks/1/resolve/?fileuri=czM6"}, drawn_on()),
    ],
)
def test_label_studio_names_the_image_that_was_drawn_on(data: dict[str, Any], result: dict[str, Any]) -> None:
    drawn = {**task(result), "data": data, "file_upload": "0a1b2c3d-front-1-1.jpg"}
    assert read_label_studio([drawn]).images[0].image == "front-1-1.jpg"


@pytest.mark.parametrize(
    ("drawn", "name"),
    [({"to_name": "img"}, None), ({"to_name": "img", "source": "$now"}, "b-1-2.jpg"), ({}, None)],
)
def test_of_several_images_one_that_may_be_another_is_no_guess(
    drawn: dict[str, Any], name: str | None
) -> None:
    both = {**task(drawn_on(**drawn)), "data": {"before": "s3://b/a-1-1.jpg", "now": "s3://b/b-1-2.jpg"}}
    export = read_label_studio([both])
    assert [image.image for image in export.images] == ([] if name is None else [name])
    if name is None:
        assert "several images (a-1-1.jpg, b-1-2.jpg)" in export.refused[0].why


def test_a_task_alone_and_an_annotation_of_a_target_storage_are_read() -> None:
    one = task(drawn_on())
    annotation = {**one["annotations"][1], "task": {"id": 3, "data": one["data"]}}
    for document in (one, annotation):
        assert read_bytes("7", json.dumps(document).encode()).images[0].image == "front-1-1.jpg"


def test_of_several_annotations_the_ground_truth_counts() -> None:
    both = task(drawn_on())
    both["annotations"] = [{**both["annotations"][1], "ground_truth": True}, {"result": []}]
    assert read_label_studio([both]).images


def test_a_turned_rectangle_turns_about_its_corner() -> None:
    value = {"x": 50, "y": 0, "width": 50, "height": 50, "rotation": 90, "rectanglelabels": ["car"]}
    mask = mask_of(read_label_studio([task({"type": "rectanglelabels", "value": value})]))
    expected = np.full((6, 8), 255)
    expected[:4, 1:4] = 1
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("text", ["utf-16", "nan", "numbers of a table"])
def test_what_other_programs_make_of_json_is_read(text: str) -> None:
    document = coco({"category_id": 1.0, "image_id": 7.0, "area": 0.5, "segmentation": [0, 0, 4, 0, 4, 3]})
    document["images"][0] |= {"width": 32.0, "height": "24"}
    data = json.dumps(document)
    content = data.encode("utf-16") if text == "utf-16" else data.encode()
    if text == "nan":
        content = data.replace("0.5", "NaN").encode()
    (image,) = read_bytes("a.json", content).images
    assert (image.width, image.height) == (32, 24)


@pytest.mark.parametrize(("start", "kind"), [(b"\x1f\x8b\x08", "gzip"), (b"\0" * 257 + b"ustar", "tar")])
def test_an_archive_says_that_it_wants_to_be_unpacked(start: bytes, kind: str) -> None:
    with pytest.raises(FormatError, match=f"{kind} archive: unpack it"):
        read_bytes("labels.tar.gz", start + b"rest")


def test_outlines_in_fractions_of_the_image_are_as_large_as_they_were_drawn() -> None:
    lower = {"category_id": 2, "segmentation": [[0, 0.5, 1, 0.5, 1.0, 1.0, 0, 1]]}
    mask = mask_of(
        read_coco(coco(lower, {"category_id": 1, "segmentation": [[0, 0, 0.25, 0, 0.25, 0.5, 0, 0.5]]}))
    )
    expected = np.full((6, 8), 255)
    expected[3:], expected[:3, :2] = 2, 1
    np.testing.assert_array_equal(mask, expected)
    # One outline in pixels, and all are.
    small = {"category_id": 1, "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]]}
    pixels = mask_of(read_coco(coco({"category_id": 2, "segmentation": [[4, 0, 8, 0, 8, 6, 4, 6]]}, small)))
    assert (pixels == 1).sum() == 1


def test_a_ring_without_an_area_beside_others_is_nothing() -> None:
    export = read_coco(coco({"category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 3], [1, 1, 2, 2]]}))
    assert export.images
    export = read_coco(coco({"category_id": 1, "segmentation": [[1, 1, 2, 2]]}))
    assert "2 points" in export.refused[0].why


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(json_values, json_values, json_values)
def test_no_document_does_more_than_raise_its_error(one: Any, other: Any, third: Any) -> None:
    drawing = {"type": "polygonlabels", "original_width": 8, "original_height": 6}
    for document in (
        {"images": one, "annotations": other, "categories": third},
        [{"id": 1, "data": one, "annotations": other}],
        [task({**drawing, "value": one, "to_name": other, "image_rotation": third, "item_index": other})],
        {"task": {"data": one}, "result": other},
        {"imagePath": "a.jpg", "imageWidth": one, "imageHeight": other, "shapes": third},
        {
            "imagePath": one,
            **{"imageWidth": 8, "imageHeight": 6},
            "shapes": [{"label": "car", "points": other, "shape_type": "mask", "mask": third}],
        },
        {"imgHeight": one, "imgWidth": other, "objects": third},
        {"size": {"height": one, "width": other}, "objects": [third]},
        {
            "size": {"height": 6, "width": 8},
            "objects": [{"classTitle": "car", "geometryType": "polygon", "points": {"exterior": one}}],
        },
    ):
        try:
            export = read_bytes("a.json", json.dumps(document).encode())
            for image in export.images:
                regions.paint(image, dict.fromkeys(regions.names([image]), 1))
        except FormatError:
            continue
        assert isinstance(export, Export)
