#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: the documented default of IMWRITE_JPEG2000_COMPRESSION_X1000 is 1000, a rate of 1 to 1. Asked for, it keeps a
# mask as it is; with nothing said `cv2.imwrite("mask.jp2", ids)` changes a third of its pixels, at the sides of its classes, to ids
# that no class has or that are another's. Pillow and imagecodecs write the same format without loss with nothing said, as OpenCV
# does with WebP.
#
#   ids 0 1 2 10 255 in squares, wrong after reading: OpenCV .jp2 34 %, with 13 new ids; the same with 1000 asked for 0 %;
#   Pillow, imagecodecs, OpenCV .webp 0 %
#
# Answered by dance_ondevice/images/codec.py: labels are PNG and nothing else.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'opencv-python-headless==5.0.0.93' 'pillow==12.0.0' 'imagecodecs==2026.3.6' 'numpy==2.4.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
import io
from importlib.metadata import version

import cv2
import imagecodecs
import numpy as np
from PIL import Image

values = np.random.default_rng(0)
ids = np.kron(values.choice([0, 1, 2, 10, 255], (16, 16)), np.ones((8, 8))).astype(np.uint8)


def by_opencv(suffix, *options):
    image = np.stack([ids] * 3, axis=-1) if suffix == ".webp" else ids
    _, data = cv2.imencode(suffix, image, options)
    found = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    return found[..., 0] if found.ndim == 3 else found


def by_pillow():
    file = io.BytesIO()
    Image.fromarray(ids).save(file, "JPEG2000")
    return np.asarray(Image.open(file))


found = {
    "OpenCV .jp2": by_opencv(".jp2"),
    "OpenCV .jp2 at 1000": by_opencv(".jp2", cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000),
    "Pillow": by_pillow(),
    "imagecodecs": imagecodecs.jpeg2k_decode(imagecodecs.jpeg2k_encode(ids)),
    "OpenCV .webp": by_opencv(".webp"),
}
print(", ".join(f"{name} {version(name)}" for name in ("opencv-python-headless", "pillow", "imagecodecs")))
seen = {name: float((each != ids).mean()) for name, each in found.items()}
new = {name: len(set(np.unique(each)) - {0, 1, 2, 10, 255}) for name, each in found.items()}
for name in found:
    print(f"{name}: {seen[name]:.0%} of the pixels wrong, {new[name]} ids that no class has")
wrong = list(seen.values())
raise SystemExit(0 if wrong[0] > 0 and wrong[1:] == [0, 0, 0, 0] and new["OpenCV .jp2"] > 0 else "this has changed")
PY
