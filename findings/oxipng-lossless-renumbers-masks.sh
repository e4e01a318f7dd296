#!/usr/bin/env bash
# pyoxipng 9.1.1 (oxipng): "lossless" keeps the picture, not the numbers in the file. With its defaults a grey mask of class ids
# becomes a palette PNG whose ids are the colours, and a palette mask, as of Pascal VOC, gets its palette sorted; both are then
# read with other ids, in range and without a word, by whoever takes a palette's indices for ids (`numpy.array` of Pillow's image).
#
#   grey [0, 1, 2, 10] -> palette, read as [0, 1, 2, 3], same ids on 0% of the pixels, same picture True
#   palette [0, 1, 2, 10] -> palette, read as [0, 1, 2, 3], same ids on 30% of the pixels, same picture True
#
# Answered by dance_ondevice/label_formats/masks.py (`_renumbered`): greys in a palette of another order are no ids.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pyoxipng==9.1.1' 'pillow==12.0.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import io
from importlib.metadata import version

import numpy as np
import oxipng
from PIL import Image

values = np.random.default_rng(0)
mask = np.repeat(np.array([10, 2, 0, 1], np.uint8), 24)[:, None].repeat(128, axis=1)
for _ in range(20):
    y, x = int(values.integers(76)), int(values.integers(108))
    mask[y : y + int(values.integers(3, 20)), x : x + int(values.integers(3, 20))] = values.choice([0, 1, 2, 10])
grey, colours = Image.fromarray(mask), Image.fromarray(mask)
colours.putpalette([channel for i in range(256) for channel in (i * 67 % 256, i * 131 % 256, i * 29 % 256)])
changed = []
for name, image in (("grey", grey), ("palette", colours)):
    held = io.BytesIO()
    image.save(held, "PNG")
    after = Image.open(io.BytesIO(oxipng.optimize_from_memory(held.getvalue())))
    read = np.array(after)
    same = float((read == mask).mean())
    picture = np.array_equal(np.array(after.convert("RGB")), np.array(image.convert("RGB")))
    print(f"pyoxipng {version('pyoxipng')}: {name} {np.unique(mask).tolist()} -> {'palette' if after.mode == 'P' else after.mode}, "
          f"read as {np.unique(read).tolist()}, same ids on {same:.0%} of the pixels, same picture {picture}")
    changed.append(after.mode != "P" or same > 0.9 or not picture)
raise SystemExit("this has changed" if any(changed) else 0)
PY
