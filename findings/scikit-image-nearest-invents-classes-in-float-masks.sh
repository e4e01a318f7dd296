#!/usr/bin/env bash
# scikit-image 0.26.0: `transform.resize` and `rescale` with `order=0`, the nearest neighbour, keep a mask's classes when it holds whole
# numbers, and blur it first when the same numbers are floats: classes come out that nobody drew, between two that meet, also after
# rounding. The documentation has the filter on for all but bool, `order` aside; the code leaves it out for whole numbers with
# order 0, so that a test with uint8 passes and a mask from np.zeros or PIL's "F" does not. `anti_aliasing=False` is right.
#
#   columns 0 0 0 0 2 2 2 2 to a width of 3, rounded: uint8 0 2, float32 0 1 2, with anti_aliasing=False 0 2
#
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'scikit-image==0.26.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import skimage
from skimage.transform import rescale, resize

mask = np.zeros((8, 8), np.uint8)
mask[:, 4:] = 2
print("scikit-image", skimage.__version__)
seen = []
for kind, more in ((np.uint8, {}), (np.int64, {}), (np.float32, {}), (np.float32, {"anti_aliasing": False})):
    drawn = mask.astype(kind)
    sized = resize(drawn, (3, 3), order=0, preserve_range=True, **more)
    scaled = rescale(drawn, 0.4, order=0, preserve_range=True, **more)
    assert np.array_equal(sized, scaled)
    seen.append(np.unique(np.rint(sized)).astype(int).tolist())
    print(f"{kind.__name__} {more or ''}: values {np.unique(sized).round(3).tolist()}, rounded {seen[-1]}")
raise SystemExit(0 if seen == [[0, 2], [0, 2], [0, 1, 2], [0, 2]] else "this has changed")
PY
