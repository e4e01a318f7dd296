#!/usr/bin/env bash
# fiftyone 1.22.1: `Detection.to_polyline` and `Polyline.to_detection` turn an instance's mask into corners and back. The corners are numbers of
# pixels, and the box around them, in which the mask is drawn anew, ends where the last pixel begins: the mask comes back a row and a column
# smaller, and is stretched over its old place or not by the rounding. A pole three pixels wide is two, then one, then nothing, after four
# turns between two tools. Of a hole of 25 pixels 16 are filled where the polyline is drawn, as its corners are the object's last pixels
# around it. No error, and `to_segmentation` of the polyline (the corners drawn) is right for objects without holes.
#
#   20 x 20: 400 pixels, then 361 361 324 324; 3 x 20: 60, then 38 19 18 0; 20 x 20 with a hole of 25: 375, its polyline drawn 391
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'fiftyone==1.22.1' 'numpy==2.2.6' 'opencv-python-headless==4.14.0.94' 'scikit-image==0.26.0'
cd "$folder"
HOME=$folder FIFTYONE_DO_NOT_TRACK=true "$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import fiftyone.core.labels as labels
import numpy as np

SIDE = 40


def pixels(label):
    return int(np.count_nonzero(label.to_segmentation(frame_size=(SIDE, SIDE)).mask))


def turned(mask):
    """The pixels of a mask, of its polyline as it is drawn, and of the detection after each of four turns."""
    detection = labels.Detection.from_mask(mask, label="object")
    seen, drawn = [pixels(detection)], pixels(detection.to_polyline(tolerance=0))
    for _ in range(4):
        detection = detection.to_polyline(tolerance=0).to_detection(frame_size=(SIDE, SIDE))
        seen.append(pixels(detection))
    return drawn, seen


square, pole = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
square[5:25, 5:25] = pole[5:25, 10:13] = True
holed = square.copy()
holed[10:15, 10:15] = False
seen = {"20 x 20": turned(square), "3 x 20": turned(pole), "20 x 20 with a hole of 25": turned(holed)}
for name, (drawn, turns) in seen.items():
    print(f"fiftyone {version('fiftyone')}: {name}: {turns[0]} pixels, polyline drawn {drawn}, after each turn {turns[1:]}")
good = (
    seen["20 x 20"] == (400, [400, 361, 361, 324, 324])
    and seen["3 x 20"] == (60, [60, 38, 19, 18, 0])
    and seen["20 x 20 with a hole of 25"][0] == 391
    and seen["20 x 20 with a hole of 25"][1][0] == 375
)
raise SystemExit(0 if good else "this has changed")
PY
