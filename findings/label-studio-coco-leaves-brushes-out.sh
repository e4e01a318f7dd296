#!/bin/sh
# label-studio-sdk 2.1.2: `Converter.convert_to_coco` on tasks that were drawn with the brush succeeds and writes a file
# that lists only the image that nobody drew on, without its size, and no annotation. The drawn image is not in it (the
# eight digits before a name are a hash of its path):
#
#   images ['images/828c6055__undrawn.jpg'], width None, annotations 0
#
# It logs "Unknown label type or labels are empty" for each region; the call raises nothing.
# What we do: a file that lists no labelled image is an error that says so, not an import of 0
# (`daemon/commands/samples/labels.py`); "JSON" is the export to choose (docs/labelling-tools.md).
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet label-studio-sdk==2.1.2
cd "$work"
"$work/venv/bin/python" - <<'PY'
import json
import pathlib

import label_studio_sdk
import numpy as np
from label_studio_sdk.converter import Converter
from label_studio_sdk.converter.brush import mask2rle

mask = np.zeros((8, 8), np.uint8)
mask[:4] = 255
region = {
    "id": "r",
    "type": "brushlabels",
    "from_name": "label",
    "to_name": "image",
    "original_width": 8,
    "original_height": 8,
    "value": {"format": "rle", "rle": mask2rle(mask), "brushlabels": ["road"]},
}
tasks = [
    {"id": 1, "data": {"image": "drawn.jpg"}, "annotations": [{"id": 1, "result": [region]}]},
    {"id": 2, "data": {"image": "undrawn.jpg"}, "annotations": []},
]
pathlib.Path("tasks.json").write_text(json.dumps(tasks))
config = """<View><Image name="image" value="$image"/>
<BrushLabels name="label" toName="image"><Label value="road"/></BrushLabels></View>"""
pathlib.Path("out").mkdir()
Converter(config, ".", download_resources=False).convert_to_coco("tasks.json", "out", is_dir=False)
found = json.loads(pathlib.Path("out/result.json").read_text())
images = [image["file_name"] for image in found["images"]]
print("label-studio-sdk", label_studio_sdk.__version__, "COCO of a brush project:", end=" ")
print("images", images, "width", found["images"][0]["width"], "annotations", len(found["annotations"]))
assert len(images) == 1, images
assert images[0].endswith("__undrawn.jpg"), images
assert found["images"][0]["width"] is None
assert found["annotations"] == []
PY
