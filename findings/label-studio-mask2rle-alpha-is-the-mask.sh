#!/bin/sh
# label-studio-sdk 2.1.2: `converter.brush.mask2rle` writes a mask's values into all four channels, alpha included. A mask of
# 0 and 1 gives a brush region whose alpha is 1 of 255, and `contour2rle` writes 100; both are drawn for the SDK and the
# editor, which ask for more than 0, and nearly transparent for a reader that asks for more than half:
#
#   pixels drawn 32, largest alpha 1, above 127: 0
#
# What we do: any alpha above 0 is drawn, and a brush region without a pixel is an error
# (`dance_ondevice/label_formats/rle.py`, `regions.py`).
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet label-studio-sdk==2.1.2
cd "$work"
"$work/venv/bin/python" - <<'PY'
import label_studio_sdk
import numpy as np
from label_studio_sdk.converter.brush import decode_rle, mask2rle

mask = np.zeros((8, 8), np.uint8)
mask[:4] = 1
alpha = decode_rle(mask2rle(mask)).reshape(8, 8, 4)[..., 3]
drawn, largest, half = int((alpha > 0).sum()), int(alpha.max()), int((alpha > 127).sum())
print("label-studio-sdk", label_studio_sdk.__version__, "mask2rle of 0 and 1:", end=" ")
print(f"pixels drawn {drawn}, largest alpha {largest}, above 127: {half}")
assert (drawn, largest, half) == (32, 1, 0), (drawn, largest, half)
PY
