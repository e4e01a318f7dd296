#!/usr/bin/env bash
# pycocotools 2.0.11: `mask.encode`, by which masks become COCO's run lengths, does not ask which pixels are 0. It starts in the background
# and changes sides wherever a pixel differs from the one before it down the columns. A map of classes, a mask with soft edges (resized
# with interpolation, an alpha channel, a JPEG) or of instances that touch each other comes out as other pixels, some of them of the
# background, some in stripes, without an error. A mask of 0 and 255 is right, so a test with one passes.
#
#   one row   0 0 1 1 2 2 0 0                  encoded and decoded   0 0 1 1 0 0 1 1
#   one row   0 60 127 200 255 255 200 127 60 0                      0 1 0 1 0 0 1 0 1 0
#   the same row, encoded as `row > 0`                               0 1 1 1 1 1 1 1 1 0
#
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pycocotools==2.0.11' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
from pycocotools import mask

classes = np.array([[0, 0, 1, 1, 2, 2, 0, 0]], np.uint8, order="F")
soft = np.array([[0, 60, 127, 200, 255, 255, 200, 127, 60, 0]], np.uint8, order="F")
seen = []
print("pycocotools", version("pycocotools"))
for row in (classes, soft, (soft > 0).astype(np.uint8)):
    again = mask.decode(mask.encode(np.asfortranarray(row)))[0].tolist()
    print(*row[0], "->", *again)
    seen.append(again)
expected = [[0, 0, 1, 1, 0, 0, 1, 1], [0, 1, 0, 1, 0, 0, 1, 0, 1, 0], [0, 1, 1, 1, 1, 1, 1, 1, 1, 0]]
raise SystemExit(0 if seen == expected else "this has changed")
PY
