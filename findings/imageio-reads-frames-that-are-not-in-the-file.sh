#!/usr/bin/env bash
# imageio 2.38.1: a camera's recording with gaps (frames dropped under load) is read as other frames than it holds, by both
# plugins for video, without a word. With "FFMPEG", the default where imageio-ffmpeg is installed, frames are repeated until their rate
# is even: the n-th array is not the n-th frame, and a list of labels by number slides against it. With "pyav" `imread` makes as
# many arrays as the header counts, which in an AVI counts the gaps too, and fills those that come: the rest is memory that nobody wrote
# (`numpy.empty`). OpenCV and `imiter` with "pyav" give the frames that are there.
#
#   an AVI of 14 frames over 2.8 s: OpenCV 14, imiter pyav 14, imread pyav 28 (14 of them never written), imread FFMPEG 29
#
# Answered by daemon/wire/capture.py (`footage`): frames are read one after the other and dated by their own times. Needs python3 and a
# network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'imageio==2.38.1' 'imageio-ffmpeg==0.8.1' 'av==18.1.0' 'opencv-python-headless==5.0.0.93' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
from fractions import Fraction
from importlib.metadata import version

import av
import cv2
import imageio.v3 as iio
import numpy as np

TIMES = [*range(7), *range(9, 28, 3)]  # in tenths of a second; frame n is grey of 8 times its time
with av.open("camera.avi", "w") as file:
    stream = file.add_stream("mjpeg", rate=10)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuvj420p"
    stream.codec_context.time_base = Fraction(1, 10)
    for time in TIMES:
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), time * 8, np.uint8), format="rgb24").reformat(format="yuvj420p")
        frame.pts, frame.time_base = time, Fraction(1, 10)
        file.mux(stream.encode(frame))
    file.mux(stream.encode())


def times(images):
    """The times in tenths of a second that the pictures tell, as they were drawn."""
    return [round(float(image.mean()) / 8) for image in images]


def opencv():
    capture = cv2.VideoCapture("camera.avi")
    while (read := capture.read())[0]:
        yield read[1]


seen = {
    "OpenCV": times(opencv()),
    "imiter pyav": times(iio.imiter("camera.avi", plugin="pyav")),
    "imread pyav": times(iio.imread("camera.avi", plugin="pyav")[: len(TIMES)]),
    "imread FFMPEG": times(iio.imread("camera.avi", plugin="FFMPEG")),
}
counted = len(iio.imread("camera.avi", plugin="pyav"))
print(f"imageio {version('imageio')}, imageio-ffmpeg {version('imageio-ffmpeg')}, av {version('av')}: {len(TIMES)} frames: " + ", ".join(
    f"{name} {len(found)} {found}" for name, found in seen.items()) + f"; imread pyav goes on to {counted} arrays")
right = seen["OpenCV"] == seen["imiter pyav"] == seen["imread pyav"] == TIMES
raise SystemExit(0 if right and counted == 28 and len(seen["imread FFMPEG"]) > 25 else "this has changed")
PY
