#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: `capture.set(cv2.CAP_PROP_POS_FRAMES, 10)` returns True whether or not it went there. In a bare stream of
# JPEGs, as network cameras and `-f mjpeg` write them, it goes nowhere: the next frame is the one that would have come anyway, so that every
# tenth frame, taken for labelling, is the first few. Their number, CAP_PROP_FRAME_COUNT, is -192153584101141, which a `range` takes for
# none. `get` of the place tells, and in an MP4 of the same frames all is right.
#
#   30 JPEGs, wishes for 10, 5, 25: set says True, True, True, the frames are 0, 1, 2; the same in an MP4: 10, 5, 25
#
# Answered by daemon/wire/capture.py (`footage`), which reads on and never seeks, and daemon/wire/sources.py: such a number is no count. Needs
# python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'opencv-python-headless==5.0.0.93' 'av==18.1.0' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import av
import cv2
import numpy as np

WISHES = 10, 5, 25
pictures = [np.full((64, 64, 3), number * 8, np.uint8) for number in range(30)]
with open("camera.mjpeg", "wb") as file:
    for picture in pictures:
        file.write(cv2.imencode(".jpg", picture)[1].tobytes())
with av.open("camera.mp4", "w") as file:
    stream = file.add_stream("mjpeg", rate=10)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuvj420p"
    for picture in pictures:
        file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")))
    file.mux(stream.encode())
seen = {}
for name in ("camera.mjpeg", "camera.mp4"):
    capture = cv2.VideoCapture(name)
    count, said, got = capture.get(cv2.CAP_PROP_FRAME_COUNT), [], []
    for wish in WISHES:
        said.append(capture.set(cv2.CAP_PROP_POS_FRAMES, wish))
        got.append(round(float(capture.read()[1].mean()) / 8))
    seen[name] = said, got
    print(f"OpenCV {cv2.__version__} {name}: {count:.0f} frames, wishes for {WISHES}: set says {said}, the frames are {got}")
good = seen == {"camera.mjpeg": ([True] * 3, [0, 1, 2]), "camera.mp4": ([True] * 3, [10, 5, 25])}
raise SystemExit(0 if good else "this has changed")
PY
