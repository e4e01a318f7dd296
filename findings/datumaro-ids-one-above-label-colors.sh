#!/bin/sh
# datumaro 1.13.12: `cityscapes` puts a background at id 0 and moves every class up by one, but label_colors.txt beside
# the masks lists the classes alone, without the background and, where the data set has no colours, without colours:
#
#   ids 0 1 2 beside the lines [' sky', ' road']
#
# Read by its lines, 1 is road and 2 is nothing; it is meant to be sky and road.
# What we do: a table without background and colours is no guess, the import stops and asks
# (`daemon/curation/labels.py`, `_base`), unless the ids go up to the number of lines.
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

top = np.zeros((8, 8), bool)
top[:2] = True
annotations = [Mask(top, label=0), Mask(top[::-1], label=1)]
item = DatasetItem("frame", media=Image.from_numpy(np.zeros((8, 8, 3), np.uint8)), annotations=annotations)
Dataset.from_iterable([item], categories=["sky", "road"]).export("out", "cityscapes", save_media=False)
(file,) = pathlib.Path("out").rglob("*_labelIds.png")
ids = np.unique(cv2.imread(str(file), cv2.IMREAD_UNCHANGED)).tolist()
lines = pathlib.Path("out/label_colors.txt").read_text().splitlines()
print("datumaro", datumaro.__version__, "cityscapes: ids", ids, "beside the lines", lines)
assert ids == [0, 1, 2], ids
assert lines == [" sky", " road"], lines
PY
