#!/bin/sh
# datumaro 1.13.12: shapes of one group become one COCO annotation under the label of the largest, whatever the others are labelled.
# A person who groups a rider with the bicycle in CVAT, which exports COCO by datumaro, has labelled a rider alone; nothing in the file
# or the log says that there was another label. Formats of masks written from the same data keep both:
#
#   a road of 256 pixels grouped with a sky of 36: COCO: 1 annotation, road, area 256; masks: road 220, sky 36
#
# What we do: the file does not show it; docs/labelling-tools.md says which export to choose where shapes are grouped.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet datumaro==1.13.12
cd "$work"
"$work/venv/bin/python" - <<'PY'
import json
import pathlib

import cv2
import datumaro
import numpy as np
from datumaro import Dataset, DatasetItem, Image, Polygon


def box(left, right, label, z_order):
    points = [left, left, right, left, right, right, left, right]
    return Polygon(points, label=label, group=1, z_order=z_order)


item = DatasetItem(
    "frame", media=Image.from_numpy(np.zeros((20, 20, 3), np.uint8)), annotations=[box(2, 18, 1, 0), box(6, 12, 0, 1)]
)
dataset = Dataset.from_iterable([item], categories=["sky", "road"])
dataset.export("coco", "coco_instances", save_media=False)
(file,) = pathlib.Path("coco").rglob("*.json")
document = json.loads(file.read_text())
names = {category["id"]: category["name"] for category in document["categories"]}
found = [(names[each["category_id"]], each["area"]) for each in document["annotations"]]
dataset.transform("polygons_to_masks").export("masks", "cityscapes", save_media=False)
(png,) = pathlib.Path("masks").rglob("*_labelIds.png")
ids = cv2.imread(str(png), cv2.IMREAD_UNCHANGED)
pixels = {"road": int((ids == 2).sum()), "sky": int((ids == 1).sum())}
print(f"datumaro {datumaro.__version__}: a road of 256 pixels grouped with a sky of 36: COCO: annotations {found}; masks: {pixels}")
assert found == [("road", 256)], found
assert pixels == {"road": 220, "sky": 36}, pixels
PY
