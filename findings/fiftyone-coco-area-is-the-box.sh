#!/usr/bin/env bash
# fiftyone 1.22.1, pycocotools 2.0.11: instances with masks that FiftyOne exports as COCO have the area of their box in `area`, where COCO has
# the pixels of the mask: its metric goes by it for what is "small". The outlines are traced half a pixel outside the outermost pixels, in
# numbers of pixels; COCO's corners lie between pixels, so that all is half a pixel too near the first corner, and what the default
# tolerance of 2 leaves of a square is sheared. Of a pole 3 pixels wide a third is gone, of one of 1 pixel everything; the ring around a
# hole is written like any other, and pycocotools fills it.
#
#   pixels, `area`, as pycocotools reads it: a disc 481, 625, 452; with a hole of 25 456, 625, 452; 3 x 20 60, 60, 41; 1 x 20 20, 20, 0
#
# Answered by dance_ondevice/label_formats/coco.py (`_rings`): outlines all of whose corners lie in the middle between two neighbouring pixels
# are taken so, holes too, whatever `area` says. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'fiftyone==1.22.1' 'pycocotools==2.0.11' 'numpy==2.2.6' 'opencv-python-headless==4.14.0.94' \
  'scikit-image==0.26.0'
cd "$folder"
HOME=$folder FIFTYONE_DO_NOT_TRACK=true "$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import fiftyone.core.labels as labels
import fiftyone.utils.coco as coco
import numpy as np
from fiftyone.core.metadata import ImageMetadata
from pycocotools import mask as coco_masks

SIDE = 40


def exported(mask):
    """Pixels of a mask, the area that is written, and the pixels that pycocotools fills."""
    detection = labels.Detection.from_mask(mask, label="object")
    written = coco.COCOObject.from_label(detection, ImageMetadata(width=SIDE, height=SIDE), category_id=1).to_anno_dict()
    outlines = coco_masks.merge(coco_masks.frPyObjects(written["segmentation"], SIDE, SIDE))
    return int(mask.sum()), float(written["area"]), int(coco_masks.decode(outlines).sum())


y, x = np.mgrid[:SIDE, :SIDE]
disc = (y - 20) ** 2 + (x - 20) ** 2 < 150
holed = disc.copy()
holed[18:23, 18:23] = False
pole, wire = np.zeros_like(disc), np.zeros_like(disc)
pole[5:25, 10:13] = wire[5:25, 10] = True
seen = {name: exported(mask) for name, mask in {"disc": disc, "with a hole": holed, "3 x 20": pole, "1 x 20": wire}.items()}
print(f"fiftyone {version('fiftyone')}: pixels, area, read by pycocotools:", seen)
expected = {"disc": (481, 625.0, 452), "with a hole": (456, 625.0, 452), "3 x 20": (60, 60.0, 41), "1 x 20": (20, 20.0, 0)}
raise SystemExit(0 if seen == expected else "this has changed")
PY
