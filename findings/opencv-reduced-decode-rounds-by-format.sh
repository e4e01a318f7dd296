#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: which size IMREAD_REDUCED_* gives depends on the format of the file. A side that does not divide
# is rounded up in a JPEG, where libjpeg reduces, and down in every other format, where OpenCV resizes afterwards. So an image
# and its mask, JPEG and PNG of one size, come back with different ones, and a list of sizes made for one is wrong for the other.
#
#   101x75 at 1/2, 1/4, 1/8: JPEG 51x38 26x19 13x10, PNG 50x37 25x18 12x9, WebP 50x37 25x18 12x9
#
# Answered by dance_ondevice/images/codec.py (`_decode`), which reduces other formats itself, rounding up.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'opencv-python-headless==5.0.0.93' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import cv2
import numpy as np

found = {}
for name in ("JPEG", "PNG", "WebP"):
    data = cv2.imencode(f".{name.lower()}", np.zeros((75, 101, 3), np.uint8))[1]
    flags = [getattr(cv2, f"IMREAD_REDUCED_COLOR_{part}") for part in (2, 4, 8)]
    found[name] = ["x".join(map(str, cv2.imdecode(data, flag).shape[1::-1])) for flag in flags]
told = ", ".join(f"{name} {' '.join(sizes)}" for name, sizes in found.items())
print(f"OpenCV {cv2.__version__}: 101x75 at 1/2, 1/4, 1/8: {told}")
up, down = ["51x38", "26x19", "13x10"], ["50x37", "25x18", "12x9"]
raise SystemExit(0 if found == {"JPEG": up, "PNG": down, "WebP": down} else "this has changed")
PY
