#!/usr/bin/env bash
# supervision 0.31.2 (Roboflow): the corners that its COCO export writes are the numbers of the outermost pixels, which its own reader
# fills with their edge. COCO's corners lie between pixels, so for every other reader the object has lost its last row and column
# and disagrees with its own `area`: a pole three pixels wide keeps two.
#
#   a pole of 3x20 pixels: area 60, read by supervision 60, by pycocotools 38
#
# Answered by dance_ondevice/label_formats/coco.py (`_rings`): where `area` is the number of pixels that such corners hold, by
# Pick's theorem, they are taken so. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'supervision==0.31.2' 'pycocotools==2.0.11' 'opencv-python-headless==5.0.0.93'
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import json
from pathlib import Path

import cv2
import numpy as np
import supervision
from pycocotools import mask as coco_masks

pole = np.zeros((32, 32), bool)
pole[5:25, 10:13] = True
cv2.imwrite("frame.png", np.zeros((32, 32, 3), np.uint8))
drawn = supervision.Detections(
    xyxy=supervision.mask_to_xyxy(pole[None]).astype(float), mask=pole[None], class_id=np.array([0])
)
supervision.DetectionDataset(["pole"], ["frame.png"], {"frame.png": drawn}).as_coco(annotations_path="coco.json")
(annotation,) = json.loads(Path("coco.json").read_text())["annotations"]
again = supervision.DetectionDataset.from_coco(".", "coco.json", force_masks=True)
(read,) = (int(each.mask.sum()) for each in again.annotations.values())
filled = coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects(annotation["segmentation"], 32, 32)))
area, others = annotation["area"], int(filled.sum())
print(f"supervision {supervision.__version__}: a pole of 3x20 pixels: area {area:g}, read by supervision {read}, by pycocotools {others}, "
      f"corners {annotation['segmentation']}")
raise SystemExit(0 if (area, read, others) == (60, 60, 38) else "this has changed")
PY
