#!/usr/bin/env bash
# pyvips 3.2.0 with libvips 8.18.7, and sharp 0.35.5 (npm), which is libvips too: the grey of an image, by `colourspace("b-w")` and in sharp
# by `greyscale()`, is not the luma that JPEG, OpenCV, Pillow and cameras mean, 0.299 R + 0.587 G + 0.114 B. libvips takes the luminance of
# linear light and bends that back: greys are the same and every pure colour is lighter, blue by 47 levels and green by 70. Thresholds,
# histograms and scores of complexity that were set on one side of a pipeline are wrong on the other, by the colour of the scene.
#
#   red, green, blue, grey: OpenCV 76, 150, 29, 128; libvips and sharp 127, 220, 76, 128
# Needs python3, node and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pyvips==3.2.0' 'pyvips-binary==8.18.7' 'opencv-python-headless==5.0.0.93' 'numpy==2.2.6'
npm install --silent --no-fund --no-audit --prefix "$folder" 'sharp@0.35.5' >/dev/null
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import json
import subprocess

import cv2
import numpy as np
import pyvips

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (128, 128, 128)}
SHARP = """
const sharp = require('sharp');
const raw = { width: 8, height: 8, channels: 3 };
Promise.all(JSON.parse(process.argv[1]).map(async colour => {
  const image = sharp(Buffer.from(Array(64).fill(colour).flat()), { raw });
  return (await image.greyscale().raw().toBuffer())[0];
})).then(greys => console.log(JSON.stringify(greys)));
"""
images = [np.full((8, 8, 3), colour, np.uint8) for colour in COLOURS.values()]
seen = {
    "OpenCV": [int(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[0, 0]) for image in images],
    "libvips": [int(pyvips.Image.new_from_array(image, interpretation="srgb").colourspace("b-w")(0, 0)[0]) for image in images],
    "sharp": json.loads(subprocess.check_output(["node", "-e", SHARP, json.dumps(list(COLOURS.values()))])),
}
vips = ".".join(str(pyvips.version(part)) for part in range(3))
print(f"pyvips {pyvips.__version__} with libvips {vips}, sharp 0.35.5: {', '.join(COLOURS)}: {seen}")
good = seen == {"OpenCV": [76, 150, 29, 128], "libvips": [127, 220, 76, 128], "sharp": [127, 220, 76, 128]}
raise SystemExit(0 if good else "this has changed")
PY
