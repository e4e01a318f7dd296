"""LabelMe's files, and those of Cityscapes that look alike."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from dance_ondevice.images.codec import encode_png
from dance_ondevice.label_formats import regions
from dance_ondevice.label_formats.reader import read_bytes
from dance_ondevice.label_formats.regions import FormatError

SIZE = {"imageHeight": 24, "imageWidth": 32}
BOX = [[4, 4], [12, 4], [12, 12], [4, 12]]


def labelme(*shapes: dict[str, Any], **more: Any) -> bytes:
    document = {"version": "5.4.1", "shapes": list(shapes), "imagePath": "..\\pictures\\front-1-1.jpg"}
    return json.dumps({**document, **SIZE, **more}).encode()


def shape(kind: str | None, points: Any, **more: Any) -> dict[str, Any]:
    return {"label": "car", "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def area(data: bytes, name: str = "elsewhere.json") -> np.ndarray:
    (image,) = read_bytes(name, data).images
    assert image.image == "front-1-1.jpg"
    return regions.paint(image, {"car": 1}) == 1


@pytest.mark.parametrize("kind", ["polygon", None, "rectangle", "mask", "oriented_rectangle"])
def test_every_shape_with_an_area_is_painted(kind: str | None) -> None:
    points = BOX if kind not in ("rectangle", "mask") else [[12, 12], [4, 4]]
    mask = base64.b64encode(encode_png(np.ones((8, 8), np.uint8))).decode() if kind == "mask" else None
    expected = np.zeros((24, 32), bool)
    expected[4:12, 4:12] = True
    np.testing.assert_array_equal(area(labelme(shape(kind, points, mask=mask))), expected)


@pytest.mark.parametrize("kind", ["rectangle", "rotation", "quadrilateral"])
def test_boxes_of_x_anylabeling_have_four_corners(kind: str) -> None:
    expected = np.zeros((24, 32), bool)
    expected[4:12, 4:12] = True
    np.testing.assert_array_equal(area(labelme(shape(kind, BOX, direction=0.0))), expected)


def test_a_circle_is_given_by_its_middle_and_a_point_on_it() -> None:
    assert area(labelme(shape("circle", [[16, 12], [16, 4]]))).sum() == pytest.approx(np.pi * 64, rel=0.05)


def test_lines_and_points_are_skipped_and_counted_but_are_no_label_alone() -> None:
    export = read_bytes("a.json", labelme(shape("polygon", BOX), shape("linestrip", [[0, 0], [4, 4]])))
    assert export.images
    assert "1 linestrip" in export.notes[0]
    (refused,) = read_bytes("a.json", labelme(shape("point", [[1, 1]]))).refused
    assert "no area" in refused.why


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (shape("spline", BOX), "spline"),
        (shape("polygon", [[0, 0], ["1", 2], [3, 3]]), "position"),
        (shape("polygon", None), "points"),
        (shape("rectangle", BOX[:3]), "takes two"),
        (shape("polygon", BOX, label=None), "label"),
    ],
)
def test_an_image_with_a_bad_shape_is_refused_whole(bad: dict[str, Any], why: str) -> None:
    (refused,) = read_bytes("a.json", labelme(shape("polygon", BOX), bad)).refused
    assert refused.image == "front-1-1.jpg"
    assert why in refused.why


def test_a_mask_that_is_no_picture_shows_when_it_is_painted() -> None:
    (image,) = read_bytes("a.json", labelme(shape("mask", [[0, 0], [4, 4]], mask="bm90aGluZw=="))).images
    with pytest.raises(FormatError, match="mask"):
        regions.paint(image, {"car": 1})


def test_polygons_of_cityscapes_are_named_after_their_file() -> None:
    objects = [{"label": "car", "polygon": BOX}, {"label": "car", "polygon": BOX[:2], "deleted": 1}]
    document = {"imgHeight": 24, "imgWidth": 32, "objects": objects}
    file = "gtFine/val/ulm/cam-17-7_gtFine_polygons.json"
    (image,) = read_bytes(file, json.dumps(document).encode()).images
    assert image.image == "cam-17-7"
    assert (regions.paint(image, {"car": 1}) == 1).sum() == 64
