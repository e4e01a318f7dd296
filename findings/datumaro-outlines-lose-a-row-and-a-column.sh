#!/bin/sh
# datumaro 1.13.12: masks that it turns into polygons come back smaller. The corners are the numbers of the outermost pixels, and
# when it fills polygons the corners are edges: each turn takes the last row and column away, and a hole is filled at the first:
#
#   masks_to_polygons and back, a square of 100 pixels: 81, 64, 49; with a hole of 9 in it: 81
#
# `segmentation_mode="polygons"` of its COCO export writes the same, with the smaller area.
# What we do: masks stay masks, a run-length code is taken pixel by pixel (`dance_ondevice/label_formats/rle.py`), and nothing
# is made of it but a mask. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet datumaro==1.13.12
cd "$work"
"$work/venv/bin/python" - <<'PY'
import json
import pathlib

import datumaro
import numpy as np
from datumaro import Dataset, DatasetItem, Image, Mask

square = np.zeros((20, 20), bool)
square[2:12, 2:12] = True
holed = square.copy()
holed[5:8, 5:8] = False


def made(mask):
    media = Image.from_numpy(np.zeros((20, 20, 3), np.uint8))
    item = DatasetItem("frame", media=media, annotations=[Mask(mask, label=0)])
    return Dataset.from_iterable([item], categories=["road"])


def there_and_back(mask, turns):
    """Pixels after each turn."""
    dataset, sizes = made(mask), []
    for _ in range(turns):
        dataset = dataset.transform("masks_to_polygons").transform("polygons_to_masks")
        sizes.append(int(sum(annotation.image.sum() for item in dataset for annotation in item.annotations)))
    return sizes


whole, cut = there_and_back(square, 3), there_and_back(holed, 1)
made(square).export("out", "coco_instances", save_media=False, segmentation_mode="polygons")
(file,) = pathlib.Path("out").rglob("*.json")
area = json.loads(file.read_text())["annotations"][0]["area"]
print(f"datumaro {datumaro.__version__}: masks_to_polygons and back, a square of 100 pixels: {', '.join(map(str, whole))}; "
      f"with a hole of 9 in it: {', '.join(map(str, cut))}; exported as COCO polygons: area {area:g}")
assert (whole, cut, area) == ([81, 64, 49], [81], 81), (whole, cut, area)
PY
