#!/usr/bin/env bash
# supervisely 6.74.51 with OpenCV 4.14.0 (SDK, offline): a mask as a `Bitmap`, made into a `Polygon` (`to_contours`) and drawn again, keeps
# its outer edge to the pixel and loses a ring of pixels around each hole. The corners of a hole are the last pixels of the object
# around it, and `draw` takes them out with the hole; once more, and the next ring is gone: a hole of 9 pixels has 21, 37 and 57. So
# windows, gaps between poles and wheels widen with every conversion, with no error. `Polygon.area` is a third number for it,
# by lines through the middle of pixels.
#
#   100 pixels with a hole of 9: bitmap 91, drawn from its polygon 79, again 63, 43; area of the first polygon 67, of the bitmap 91;
#   without the hole: 100, 100, 100, 100
#
# Answered by dance_ondevice/label_formats/supervisely.py (`_ring`): pixels on a ring, of a hole too, are the object's, so that the polygon
# is read as the 91 pixels that it was made of.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'supervisely==6.74.51' 'numpy==2.4.6' 'opencv-python==4.14.0.94' 'opencv-python-headless==4.14.0.94'
cd "$folder"
HOME=$folder "$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
import supervisely


def turns(mask):
    """Pixels of the mask, and after each of three turns into a polygon and back; the areas that both tell at first."""
    counts, areas = [int(mask.sum())], None
    for _ in range(3):
        bitmap = supervisely.Bitmap(mask)
        (polygon,) = bitmap.to_contours()
        areas = areas or (float(bitmap.area), float(polygon.area))
        canvas = np.zeros(mask.shape, np.uint8)
        polygon.draw(canvas, 1)
        mask = canvas.astype(bool)
        counts.append(int(mask.sum()))
    return counts, areas


whole = np.zeros((20, 20), bool)
whole[4:14, 5:15] = True
holed = whole.copy()
holed[7:10, 8:11] = False
seen = turns(whole), turns(holed)
print("supervisely", version("supervisely"), "pixels by turn, areas of bitmap and polygon:", *seen)
expected = ([100] * 4, (100.0, 81.0)), ([91, 79, 63, 43], (91.0, 67.0))
raise SystemExit(0 if seen == expected else "this has changed")
PY
