#!/usr/bin/env bash
# opencv-python-headless 4.13.0.92 and 5.0.0.93: an interlaced recording (MPEG-2 here, H.264 and DV alike) is opened, `read` says True
# for each frame, and every frame is one and the same picture that is not in the file: what converts the frames to BGR refuses
# interlaced ones since then, and only standard error hears of it. 4.12.0.88 reads them.
#
#   20 frames of a moving square: 4.12.0.88 20 pictures, 4.13.0.92 1 picture, 5.0.0.93 1 picture, `read` True for all
#
# Answered by daemon/wire/capture.py (`told_if_unchanging`), which names a way around.
# Needs python3 and a network. Ends with status 1 if one of them reads otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'av==16.0.1' 'numpy==2.2.6'
"$folder/venv/bin/python" - "$folder/video.ts" <<'PY'
import sys
from fractions import Fraction

import av
import numpy as np

with av.open(sys.argv[1], "w", format="mpegts") as file:
    stream = file.add_stream("mpeg2video", rate=25)
    stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
    stream.options = {"flags": "+ilme+ildct"}
    stream.bit_rate = 2_000_000
    for number in range(20):
        picture = np.full((240, 320, 3), 60, np.uint8)
        picture[80:160, 10 * number : 10 * number + 80] = 200
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        file.mux(stream.encode(frame))
    file.mux(stream.encode())
PY
for version in 4.12 4.13 5.0; do python3 -m venv "$folder/$version"; done
"$folder/4.12/bin/pip" install --quiet 'opencv-python-headless==4.12.0.88' 'numpy==2.2.6'
"$folder/4.13/bin/pip" install --quiet 'opencv-python-headless==4.13.0.92' 'numpy==2.2.6'
"$folder/5.0/bin/pip" install --quiet 'opencv-python-headless==5.0.0.93' 'numpy==2.2.6'
same=0
for version in 4.12 4.13 5.0; do
    expected=$([ "$version" = 4.12 ] && echo 20 || echo 1)
    "$folder/$version/bin/python" - "$folder/video.ts" "$version" "$expected" 2>/dev/null <<'PY' || same=1
import sys

import cv2

capture, read, pictures = cv2.VideoCapture(sys.argv[1]), 0, set()
while True:
    there, picture = capture.read()
    if not there:
        break
    read += 1
    pictures.add(picture.tobytes())
print(f"opencv {sys.argv[2]}: read {read} frames, {len(pictures)} different")
raise SystemExit(0 if read >= 19 and abs(len(pictures) - int(sys.argv[3])) <= 1 else 1)
PY
done
exit $same
