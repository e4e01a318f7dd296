#!/usr/bin/env bash
# @huggingface/transformers 4.3.2 (npm) with pillow 12.0.0: a network in the browser's language is fed as it was trained in Python, one thinks: the
# same preprocessor_config.json, `resample: 2`, and the source says that it "matches how the python Pillow library does it". Under node a
# "bilinear" or "bicubic" resize is an affine transform that looks at the 4 or 16 pixels around one point; Pillow weighs all pixels that become
# one. From a full HD frame to 512 pixels, "bilinear" passes over most of the picture: thin lines come and go, grids become bands, noise is not
# averaged away. The size is right and nothing is said. `lanczos` is done as in Pillow; at sizes near the frame's own the two agree.
#
#   stripes one pixel of four wide (60 on average), a quarter of the size: Pillow 43 to 69 (bilinear), transformers.js 240 everywhere
# Needs python3, node and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pillow==12.0.0' 'numpy==2.2.6'
npm install --silent --no-fund --no-audit --ignore-scripts --prefix "$folder" '@huggingface/transformers@4.3.2' 'sharp@0.35.5' >/dev/null
cd "$folder"
cat > resize.mjs <<'JS'
import { RawImage } from '@huggingface/transformers';

const SIDE = 64;
const pixels = new Uint8ClampedArray(SIDE * SIDE * 3);
for (let at = 0; at < SIDE * SIDE; at++) pixels.fill((at % SIDE) % 4 === 0 ? 240 : 0, 3 * at, 3 * at + 3);
const seen = {};
for (const [name, resample] of [['bilinear', 2], ['bicubic', 3], ['lanczos', 1]]) {
  const small = await new RawImage(pixels.slice(), SIDE, SIDE, 3).resize(SIDE / 4, SIDE / 4, { resample });
  seen[name] = Array.from(small.data).filter((_, at) => at % 3 === 0).slice(0, SIDE / 4);
}
console.log(JSON.stringify(seen));
JS
node resize.mjs > seen.json
"$folder/venv/bin/python" - <<'PY'
import json
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

stripes = np.zeros((64, 64, 3), np.uint8)
stripes[:, ::4] = 240
filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
javascript = {name: np.array(row) for name, row in json.loads(Path("seen.json").read_text()).items()}
far = {}
for name, way in filters.items():
    python = np.array(Image.fromarray(stripes).resize((16, 16), way))[0, :, 0].astype(int)
    far[name] = int(np.abs(python - javascript[name]).max())
    print(f"{name}: pillow {PIL.__version__} {sorted(set(python.tolist()))}, transformers 4.3.2 (npm) {sorted(set(javascript[name].tolist()))}")
print("furthest apart, of 255:", far)
raise SystemExit(0 if far["bilinear"] > 100 and far["bicubic"] > 100 and far["lanczos"] < 20 else "this has changed")
PY
