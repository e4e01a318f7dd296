"""Supervisely's files: one for each image, and lists of classes beside them."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest

from dance_ondevice.images.codec import encode_png
from dance_ondevice.label_formats import regions
from dance_ondevice.label_formats.reader import read_bytes
from dance_ondevice.label_formats.regions import FormatError

NAME = "ds0/ann/front-1-1.jpg.json"


def supervisely(*objects: dict[str, Any]) -> bytes:
    return json.dumps({"size": {"height": 24, "width": 32}, "tags": [], "objects": list(objects)}).encode()


def drawing(kind: str, **more: Any) -> dict[str, Any]:
    return {"classTitle": "car", "geometryType": kind, **more}


def bitmap(png: bytes, origin: Any = (4, 6)) -> dict[str, Any]:
    data = base64.b64encode(zlib.compress(png)).decode()
    return drawing("bitmap", bitmap={"data": data, "origin": list(origin)})


def area(*objects: dict[str, Any]) -> np.ndarray:
    (image,) = read_bytes(NAME, supervisely(*objects)).images
    assert image.image == "front-1-1.jpg"
    return regions.paint(image, {"car": 1}) == 1


@pytest.mark.parametrize("alpha", [False, True])
def test_a_bitmap_lies_at_its_origin(alpha: bool) -> None:
    mask = np.zeros((5, 7), np.uint8)
    mask[1:, 2:] = 255
    png = encode_png(np.dstack([np.full_like(mask, 255)] * 3 + [mask]) if alpha else mask)
    expected = np.zeros((24, 32), bool)
    expected[7:11, 6:11] = True
    np.testing.assert_array_equal(area(bitmap(png)), expected)


def test_a_polygon_holds_its_corners_and_has_holes() -> None:
    outer, hole = [[4, 4], [13, 4], [13, 13], [4, 13]], [[7, 7], [10, 7], [10, 10], [7, 10]]
    found = area(drawing("polygon", points={"exterior": outer, "interior": [hole]}))
    assert found[4:14, 4].all()
    assert not found[8:10, 8:10].any()
    rectangle = area(drawing("rectangle", points={"exterior": [[4, 4], [13, 13]], "interior": []}))
    np.testing.assert_array_equal(np.argwhere(rectangle)[[0, -1]], [[4, 4], [13, 13]])


def test_the_lists_of_classes_and_keys_hold_no_image() -> None:
    meta = {"classes": [{"title": "car", "shape": "polygon", "color": "#ffffff"}], "tags": []}
    assert read_bytes("meta.json", json.dumps(meta).encode()).images == ()
    keys = {"tags": {}, "objects": {}, "figures": {}, "videos": {}}
    assert read_bytes("key_id_map.json", json.dumps(keys).encode()).images == ()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (drawing("cuboid_3d"), "cuboid_3d"),
        (drawing("bitmap"), "no data"),
        (drawing("polygon", points={"exterior": [[1, 1]]}), "1 points"),
        (drawing("point", points={"exterior": [[1, 1]]}), "no area"),
        ({"geometryType": "polygon"}, "classTitle"),
    ],
)
def test_an_image_with_a_bad_object_is_refused(bad: dict[str, Any], why: str) -> None:
    (refused,) = read_bytes(NAME, supervisely(bad)).refused
    assert why in refused.why


@pytest.mark.parametrize("data", ["!", base64.b64encode(b"no zlib").decode(), None])
def test_a_damaged_bitmap_shows_when_it_is_painted(data: object) -> None:
    with pytest.raises(FormatError, match="bitmap"):
        area(drawing("bitmap", bitmap={"data": data, "origin": [0, 0]}))
