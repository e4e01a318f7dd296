"""COCO outlines of programs that mean another place by a corner than COCO does."""

from __future__ import annotations

from typing import Any

import numpy as np

from dance_ondevice.label_formats import regions
from dance_ondevice.label_formats.coco import read_coco


def painted(*outlines: tuple[int, list[list[float]], float]) -> np.ndarray[Any, Any]:
    """Return the mask, (6, 8), of outlines with their class and the ``area`` that is written with them."""
    document = {
        "images": [{"id": 7, "file_name": "front-1-1.jpg", "width": 8, "height": 6}],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "road"}],
        "annotations": [
            {"image_id": 7, "category_id": category, "segmentation": rings, "area": area}
            for category, rings, area in outlines
        ],
    }
    (image,) = read_coco(document).images
    return regions.paint(image, {"car": 1, "road": 2})


# As FiftyOne 1.22.1 writes a square with a hole in the image's corner: numbers of pixels, and 0 for -0.5.
OUTER = [4, 4.5, 3, 4.5, 2, 4.5, 1, 4.5, 0, 4.5, 0, 4, 0, 3, 0, 2, 0, 1, 0, 0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0]
OUTER += [4.5, 0, 4.5, 1, 4.5, 2, 4.5, 3, 4.5, 4, 4, 4.5]
HOLE: list[float] = [2.5, 2, 2, 1.5, 1.5, 2, 2, 2.5, 2.5, 2]


def test_outlines_in_the_middle_between_pixels_are_taken_so() -> None:
    box = 25.0  # FiftyOne's area
    wire: list[float] = [6, 4.5, 6, 0.5, 6, 4.5]
    expected = np.full((6, 8), 255)
    expected[:5, :5] = 1
    expected[2, 2] = 255
    expected[1:5, 6] = 2
    np.testing.assert_array_equal(painted((1, [OUTER, HOLE], box), (2, [wire], 4.0)), expected)


def test_other_outlines_beside_them_say_that_corners_lie_between_pixels() -> None:
    other: list[float] = [5, 5, 8, 5, 8, 6, 5, 6]
    mask = painted((1, [OUTER, HOLE], 25.0), (2, [other], 3.0))
    assert mask[2, 2] == 1
    np.testing.assert_array_equal(mask[5], [255] * 5 + [2] * 3)


def test_a_coco_without_layers_is_told() -> None:
    document: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    assert read_coco(document).notes == read_coco({**document, "info": {"description": "mine"}}).notes == ()
    (note,) = read_coco({**document, "info": {"description": "coco from ISAT"}}).notes
    assert "layers" in note
