#!/usr/bin/env bash
# simplejpeg 1.9.0 (libjpeg-turbo): a JPEG decoded at a reduced size is not cheaper the smaller it comes out. Decoding to three
# quarters takes more CPU time than decoding at full size, since only the sizes 1, 1/2, 1/4 and 1/8 have fast transforms; half
# is cheap. So "let the decoder scale, it saves the resize" holds at some scales and is wrong at others.
#
#   CPU ms of 1280x960: full 5.9, three quarters 7.7, half 5.0
#
# Answered by policies/stream/decoding.py (REDUCTIONS), which asks for whole fractions alone.
# Needs python3 and a network. Ends with status 1 if three quarters costs less than nine tenths of full size.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'simplejpeg==1.9.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import time
from importlib.metadata import version

import numpy as np
import simplejpeg

rows, columns = np.mgrid[:960, :1280]
waves = [128 + 60 * np.sin(rows / (7 + c)) * np.cos(columns / (11 + c)) for c in range(3)]
noise = np.random.default_rng(0).normal(0, 12, (960, 1280, 3))
image = np.clip(np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)
data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=85, colorspace="RGB", colorsubsampling="420")

wanted = {"full": (960, 1280), "three quarters": (720, 960), "half": (480, 640)}
best = dict.fromkeys(wanted, float("inf"))
# In turn, and the least of each: other programs disturb.
for _ in range(25):
    for name, (height, width) in wanted.items():
        start = time.process_time()
        found = simplejpeg.decode_jpeg(data, min_height=height, min_width=width, min_factor=1)
        best[name] = min(best[name], (time.process_time() - start) * 1000)
        assert found.shape == (height, width, 3), found.shape
told = ", ".join(f"{name} {milliseconds:.1f}" for name, milliseconds in best.items())
print(f"simplejpeg {version('simplejpeg')}: CPU ms of 1280x960: {told}")
raise SystemExit(0 if best["three quarters"] > 0.9 * best["full"] and best["half"] < best["full"] else "this has changed")
PY
