#!/usr/bin/env bash
# darwin-py 3.6.3 (V7): "semantic mask" as grey spreads the ids over 0 to 255 by replacing one after the other in the same array. The
# grey of the first class, 255 / n, is the id of a later one as long as it is no more than n, and is then replaced once more:
# from 16 classes on two classes or more come out as one grey. class_mapping.csv beside the masks goes on naming a grey for each,
# and the index and RGB masks of the same annotations are right.
#
#   15 classes: index 15, grey 15, RGB 15 values; 19 classes: index 19, grey 18, RGB 19; class01 is listed as 13, written as 174,
#   the grey of class13
#
# What we do: such a grey has the name "class01 or class13", at which an import stops (`dance_ondevice/label_formats/colours.py`,
# `_darwin_ids`); docs/labelling-tools.md says which export to choose. Needs python3 and a network. Ends with status 1 if it
# behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'darwin-py==3.6.3' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import contextlib
import csv
import io
import json
import pathlib
from importlib.metadata import version

import numpy as np
from darwin.exporter import export_annotations, get_exporter
from PIL import Image


def annotated(classes):
    """V7's own JSON of an image with a square of four pixels for each class, side by side."""
    squares = [
        {
            "id": f"square-{number}",
            "name": f"class{number:02}",
            "polygon": {"paths": [[{"x": x, "y": y} for x, y in ((left, 2), (left + 3, 2), (left + 3, 5), (left, 5))]]},
            "slot_names": ["0"],
        }
        for number, left in enumerate(range(0, 4 * classes, 4), 1)
    ]
    slot = {"type": "image", "slot_name": "0", "width": 4 * classes, "height": 8}
    slot["source_files"] = [{"file_name": "frame.png", "url": ""}]
    return {"version": "2.0", "item": {"name": "frame.png", "path": "/", "slots": [slot]}, "annotations": squares}


def exported(classes, kind):
    """The value of each class in the mask, and what the file beside it says."""
    folder = pathlib.Path(f"{kind}-{classes}")
    folder.mkdir()
    source = folder / "frame.json"
    source.write_text(json.dumps(annotated(classes)))
    with contextlib.redirect_stdout(io.StringIO()):
        export_annotations(get_exporter(kind), [source], folder)
    (mask,) = folder.rglob("*.png")
    pixels = np.array(Image.open(mask))[3, 1::4]
    with (folder / "class_mapping.csv").open(newline="") as file:
        listed = dict(list(csv.reader(file))[2:])
    return [tuple(np.atleast_1d(pixel).tolist()) for pixel in pixels], listed


kinds = ("semantic_mask_index", "semantic_mask_grey", "semantic_mask")
seen = {classes: [len(set(exported(classes, kind)[0])) for kind in kinds] for classes in (15,)}
held = {kind: exported(19, kind) for kind in kinds}
seen[19] = [len(set(values)) for values, _ in held.values()]
values, listed = held["semantic_mask_grey"]
told = "; ".join(f"{classes} classes: index {a}, grey {b}, RGB {c} values" for classes, (a, b, c) in seen.items())
print(f"darwin-py {version('darwin-py')}: {told}; class01 is listed as {listed['class01']}, written as {values[0][0]}, "
      f"class13 as {values[12][0]}")
good = seen == {15: [15, 15, 15], 19: [19, 18, 19]} and listed["class01"] == "13" and values[0] == values[12] == (174,)
raise SystemExit(0 if good else "this has changed")
PY
