#!/usr/bin/env bash
# isat-sam 1.5.2 (ISAT): objects have a layer, which says what lies on what, and a group, which all objects inside one another's boxes share by
# default. The conversion to COCO writes no layers, and the objects of a group in the order in which Python's set holds the names of their
# classes: another one at each start of the program. Who paints the annotations into a mask, one after the other in the file's order, as is
# usual, has the car on the road at one time and the road over the car at the next, of the same labels. Numbers of classes that
# are not in the list given to it are shuffled likewise, so that two parts of one data set disagree. VOC goes by layers.
#
#   eight starts: the car is painted last in some, the road in others; the car is class 1 in some, 2 in others; VOC: car on top in all
#
# Answered by dance_ondevice/label_formats/coco.py (`read_coco`), which says so of such a file, and docs/labelling-tools.md, which asks for
# ISAT's VOC masks. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'setuptools==80.9.0' 'wheel==0.45.1' 'imgviz==1.7.5' 'numpy==2.2.6' 'scikit-image==0.25.2' \
  'opencv-python-headless==4.12.0.88' 'pycocotools==2.0.11' 'pyyaml==6.0.3' 'tqdm==4.67.1' 'pillow==11.3.0'
"$folder/venv/bin/pip" install --quiet --no-deps --no-build-isolation 'isat-sam==1.5.2'
cd "$folder"
cat > convert.py <<'PY'
import json
from pathlib import Path

import numpy as np
from ISAT.formats.coco import COCO
from ISAT.formats.voc import VOC
from PIL import Image


def drawn(category, layer, left, right):
    return {
        "category": category, "group": 1, "layer": float(layer), "area": 0, "iscrowd": False, "note": "", "bbox": [left, left, right, right],
        "segmentation": [[left, left], [right, left], [right, right], [left, right]],
    }


labels = Path("labels")
labels.mkdir(exist_ok=True)
info = {"description": "ISAT", "folder": "", "name": "front.jpg", "width": 40, "height": 40, "depth": 3, "note": ""}
labels.joinpath("front.json").write_text(json.dumps({"info": info, "objects": [drawn("road", 1, 2, 36), drawn("car", 2, 10, 20)]}))
labels.joinpath("isat.yaml").write_text("label:\n- {name: background, color: '#000'}\n- {name: road, color: '#111'}\n- {name: car, color: '#222'}\n")
coco, voc = COCO(), VOC()
coco.read_from_ISAT("labels")
coco.save_to_coco("coco.json", coco.cates)
document = json.loads(Path("coco.json").read_text())
names = {each["id"]: each["name"] for each in document["categories"]}
last = names[document["annotations"][-1]["category_id"]]
coco.save_to_coco("unlisted.json")
(number,) = (each["id"] for each in json.loads(Path("unlisted.json").read_text())["categories"] if each["name"] == "car")
voc.read_from_ISAT("labels")
voc.save_to_voc("voc")
print(f"SEEN {last} {number} {np.array(Image.open('voc/front.png'))[15, 15]}")
PY
for seed in 0 1 2 3 4 5 6 7; do
  PYTHONHASHSEED=$seed "$folder/venv/bin/python" -W ignore convert.py 2>/dev/null | grep SEEN
done > seen.txt
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version
from pathlib import Path

last, number, voc = ([line.split()[field] for line in Path("seen.txt").read_text().splitlines()] for field in (1, 2, 3))
print(f"isat-sam {version('isat-sam')}, eight starts: painted last {last}, number of the car where no list is given {number}, in VOC {voc}")
good = len(last) == 8 and set(last) == {"car", "road"} and set(number) == {"1", "2"} and set(voc) == {"2"}
raise SystemExit(0 if good else "this has changed")
PY
