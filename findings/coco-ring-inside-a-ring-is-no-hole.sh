#!/bin/sh
# datumaro 1.13.12, pycocotools 2.0.11: a COCO segmentation of several rings is what they cover together. datumaro, which CVAT
# exports with, writes a group of polygons as such a list, and pycocotools fills each ring by itself, so a ring inside
# another, or where two overlap, stays filled. GeoJSON, SVG and `cv2.fillPoly` with the same list make holes there:
#
#   nested: area 256, pycocotools 256, even-odd 220; overlapping: area 184, pycocotools 184, even-odd 168
#
# Programs that trace masks write the edges of holes as rings too, and only their `area` tells.
# What we do: rings add up, unless `area` is nearer to what is left with holes (`dance_ondevice/label_formats/coco.py`, `_rings`).
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet datumaro==1.13.12 pycocotools==2.0.11
cd "$work"
"$work/venv/bin/python" - <<'PY'
import json
import pathlib
from importlib.metadata import version

import numpy as np
from datumaro import Dataset, DatasetItem, Image, Polygon
from pycocotools import mask as coco_masks


def box(left, right):
    return [left, left, right, left, right, right, left, right]


def even_odd(rings):
    """Pixels whose middle lies within an odd number of boxes."""
    middles = np.arange(20) + 0.5
    inside = [(middles > ring[0]) & (middles < ring[2]) for ring in rings]
    return int((sum(np.outer(each, each).astype(int) for each in inside) % 2).sum())


found = {}
for name, corners in {"nested": ((2, 18), (6, 12)), "overlapping": ((2, 12), (8, 18))}.items():
    drawn = [Polygon(box(*each), label=0, group=1) for each in corners]
    item = DatasetItem("frame", media=Image.from_numpy(np.zeros((20, 20, 3), np.uint8)), annotations=drawn)
    Dataset.from_iterable([item], categories=["road"]).export(name, "coco_instances", save_media=False)
    (file,) = pathlib.Path(name).rglob("*.json")
    (annotation,) = json.loads(file.read_text())["annotations"]
    rings = annotation["segmentation"]
    filled = coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects(rings, 20, 20)))
    found[name] = (len(rings), annotation["area"], int(filled.sum()), even_odd(rings))
told = "; ".join(
    f"{name}: {count} rings, area {area:g}, pycocotools {filled}, even-odd {odd}"
    for name, (count, area, filled, odd) in found.items()
)
print(f"datumaro {version('datumaro')}, pycocotools {version('pycocotools')}: {told}")
assert found == {"nested": (2, 256, 256, 220), "overlapping": (2, 184, 184, 168)}, found
PY
