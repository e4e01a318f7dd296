#!/usr/bin/env bash
# imagecodecs 2026.3.6: all its codecs take a `level`, in most of them a quality up to 100. Said aloud, 100 is not what it seems for a mask of
# class ids: JPEG XL changes one pixel in a thousand, in a file eight times as large as with no level, JPEG 2000 one in fifteen, in a larger
# file too, and in JPEG-LS the number is the error that is allowed, so that nothing is left of the mask. JPEG XR, AVIF and WebP keep it. With
# `level=None`, the default, all of them are without loss. The changed ids are neighbours of the true ones, in range and unnoticed.
#
#   changed at 100, bytes (bytes with None): JPEG XL 0.1 %, 6875 (868); JPEG 2000 6.9 %, 9366 (7896); JPEG-LS 94 %; JPEG XR, AVIF 0
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'imagecodecs==2026.3.6' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import imagecodecs
import numpy as np

mask = np.random.default_rng(0).integers(0, 19, (20, 30)).astype(np.uint8).repeat(10, 0).repeat(10, 1)
mask[50:60] = 255
seen = {}
for name in ("jpegxl", "jpeg2k", "jpegls", "jpegxr", "avif"):
    encode, decode = getattr(imagecodecs, f"{name}_encode"), getattr(imagecodecs, f"{name}_decode")
    files = encode(mask), encode(mask, level=100)
    changed = [round(100 * float((decode(file) != mask).mean()), 1) for file in files]
    seen[name] = changed[1], len(files[1]), len(files[0])
    assert not changed[0], name
print(f"imagecodecs {version('imagecodecs')}: per cent changed at level=100, bytes, bytes with level=None, which changes none: {seen}")
good = 0 < seen["jpegxl"][0] < 1 and seen["jpegxl"][1] > 4 * seen["jpegxl"][2] and 3 < seen["jpeg2k"][0] < 15
good = good and seen["jpeg2k"][1] > seen["jpeg2k"][2] and seen["jpegls"][0] > 80 and seen["jpegxr"][0] == seen["avif"][0] == 0
raise SystemExit(0 if good else "this has changed")
PY
