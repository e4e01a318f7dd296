#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: whether `imdecode` turns an image by its EXIF orientation depends on a flag that speaks of channels.
# IMREAD_COLOR, IMREAD_GRAYSCALE, IMREAD_ANYDEPTH and the reduced decodes obey the orientation, IMREAD_UNCHANGED ignores it. So an
# image of a camera that is mounted sideways and the mask drawn for it, read with the flag that keeps ids as they are, have sides
# that are swapped.
#
#   80x40, orientation 6: COLOR 40x80, GRAYSCALE 40x80, REDUCED_GRAYSCALE_2 20x40, UNCHANGED 80x40
#
# Answered by dance_ondevice/images/codec.py (IMREAD_IGNORE_ORIENTATION everywhere) and by `samples export`, which takes EXIF away.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'opencv-python-headless==5.0.0.93' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import struct

import cv2
import numpy as np

jpeg = cv2.imencode(".jpg", np.zeros((40, 80, 3), np.uint8))[1].tobytes()
# A TIFF header, one entry (tag 0x112, a short, once, 6: turn to the right), and no further directory.
exif = b"Exif\0\0" + struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x112, 3, 1, 6, 0, 0)
turned = np.frombuffer(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:], np.uint8)
sizes = {
    name: "x".join(map(str, cv2.imdecode(turned, getattr(cv2, f"IMREAD_{name}")).shape[1::-1]))
    for name in ("COLOR", "GRAYSCALE", "REDUCED_GRAYSCALE_2", "UNCHANGED")
}
print(f"OpenCV {cv2.__version__}: 80x40, orientation 6: " + ", ".join(f"{name} {size}" for name, size in sizes.items()))
assert list(sizes.values()) == ["40x80", "40x80", "20x40", "80x40"], "this has changed"
PY
