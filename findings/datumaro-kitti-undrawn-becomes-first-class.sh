#!/bin/sh
# datumaro 1.13.12: `kitti_segmentation` writes pixels that nobody drew on as id 0, which is the first class ("sky" here),
# unless a class happens to be called background. One mask of the second class on a quarter of the image gives
#
#   ids 0 1: 0 on 48 of 64 pixels, 1 on 16
#
# so three quarters of the image are sky, and nothing in the files says that nobody drew there.
# What we do: 16-bit masks are refused with this reason (`dance_ondevice/label_formats/masks.py`).
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet datumaro==1.13.12
cd "$work"
"$work/venv/bin/python" - <<'PY'
import pathlib

import cv2
import datumaro
import numpy as np
from datumaro import Dataset, DatasetItem, Image, Mask

drawn = np.zeros((8, 8), bool)
drawn[4:, 4:] = True
item = DatasetItem(
    "frame", media=Image.from_numpy(np.zeros((8, 8, 3), np.uint8)), annotations=[Mask(drawn, label=1)]
)
Dataset.from_iterable([item], categories=["sky", "road"]).export("out", "kitti_segmentation", save_media=False)
(file,) = pathlib.Path("out").glob("*/semantic/frame.png")
mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
counts = {int(i): int((mask == i).sum()) for i in np.unique(mask)}
print("datumaro", datumaro.__version__, "kitti_segmentation: pixels by id", counts, mask.dtype)
assert counts == {0: 48, 1: 16}, counts
PY
