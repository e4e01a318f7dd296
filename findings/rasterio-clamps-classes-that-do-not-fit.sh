#!/usr/bin/env bash
# rasterio 1.4.4: `features.rasterize`, which burns polygons of labels into a mask, takes a value that the mask's type cannot hold to the
# nearest that it can, without an error or a warning: instance 256 and all after it are one, 255, which segmentation reads as "ignore",
# and -1 is 0, the first class. numpy, which one has in mind, raises for it, and so does `fill` of the same call. A value
# between whole numbers is rounded, as `fill` it is cut off. Without `dtype` or `out` the mask becomes int64 and is right.
#
#   uint8: polygons of 254, 255, 256, 257, 300 become 254, 255, 255, 255, 255; -1 becomes 0; 1.7 becomes 2
#   as `fill`: 256, 257, 300 and -1 raise OverflowError; 1.7 becomes 1
#
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'rasterio==1.4.4' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import rasterio
from rasterio.features import rasterize

VALUES = (254, 255, 256, 257, 300, -1, 1.7)
square = {"type": "Polygon", "coordinates": [[(0, 0), (3, 0), (3, 3), (0, 3), (0, 0)]]}


def as_fill(value):
    try:
        return int(rasterize([(square, 1)], out_shape=(4, 4), fill=value, dtype="uint8")[3, 3])
    except OverflowError:
        return "OverflowError"


burnt = [int(rasterize([(square, value)], out_shape=(4, 4), fill=9, dtype="uint8")[0, 0]) for value in VALUES]
into = [int(rasterize([(square, value)], out=np.full((4, 4), 9, np.uint8))[0, 0]) for value in VALUES]
filled = [as_fill(value) for value in VALUES]
wide = int(rasterize([(square, 300)], out_shape=(4, 4))[0, 0])
print(f"rasterio {rasterio.__version__}: {VALUES} as polygons {burnt}, into `out` {into}, as fill {filled}, without a type: 300 is {wide}")
raised = ["OverflowError"] * 4
good = burnt == into == [254, 255, 255, 255, 255, 0, 2] and filled == [254, 255, *raised, 1] and wide == 300
raise SystemExit(0 if good else "this has changed")
PY
