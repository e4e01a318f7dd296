#!/usr/bin/env bash
# PyAV 16.0.1 turns every frame to RGB by the matrix of SD video (BT.601), whatever the stream says of itself, though its own
# `frame.colorspace` has read BT.709, as HD video mostly is; 17.0.0 heeds the stream. So the same call on the same file gives other
# colours after an upgrade: greens by up to 24 levels, reds by 14; greys stay. With 16.0.1 imageio gives one file in one colour by its
# plugin "FFMPEG" and in the other by "pyav". OpenCV, decord and ffmpeg heed the stream. What was trained on frames that an old PyAV
# unpacked sees other colours from a camera.
#
#   BT.709, painted (30, 180, 30):  PyAV 16.0.1 and imageio pyav on it (41, 204, 34); 17.0.0, OpenCV, decord, FFMPEG (29, 178, 29)
#   BT.601, painted alike:          all (27, 179, 28)
#
# To say `src_colorspace="ITU709"` aloud changes nothing with 16.0.1. Nothing here reads video by PyAV: daemon/wire/capture.py takes
# OpenCV. Needs python3 and a network. Ends with status 1 if one of them reads otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/16"
python3 -m venv "$folder/17"
"$folder/16/bin/pip" install --quiet 'av==16.0.1' 'imageio==2.38.1' 'imageio-ffmpeg==0.8.1' 'decord==0.6.0' \
    'opencv-python-headless==5.0.0.93' 'numpy==2.2.6'
"$folder/17/bin/pip" install --quiet 'av==17.0.0' 'imageio==2.38.1' 'imageio-ffmpeg==0.8.1' 'decord==0.6.0' \
    'opencv-python-headless==5.0.0.93' 'numpy==2.2.6'
cat > "$folder/read.py" <<'PY'
import subprocess
from importlib.metadata import version

import av
import cv2
import decord
import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np

PAINTED = np.array([30, 180, 30])
OLD = version("av").startswith("16.")


def write(path, matrix):
    picture = np.broadcast_to(PAINTED.astype(np.uint8), (720, 1280, 3))
    subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"),
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "1280x720", "-r", "5", "-i", "-"),
            *("-vf", f"scale=out_color_matrix={matrix}:out_range=tv", "-pix_fmt", "yuv420p"),
            *("-c:v", "libx264", "-qp", "4", "-colorspace", matrix, "-color_primaries", matrix, "-color_trc", matrix),
            *("-color_range", "tv", path),
        ],
        input=picture.tobytes() * 5,
        check=True,
    )


def readings(path):
    frame = next(av.open(path).decode(video=0))
    return int(frame.colorspace), {
        "opencv": cv2.VideoCapture(path).read()[1][:, :, ::-1],
        "decord": decord.VideoReader(path)[0].asnumpy(),
        "imageio FFMPEG": iio.imread(path, index=0, plugin="FFMPEG"),
        "imageio pyav": iio.imread(path, index=0, plugin="pyav"),
        "PyAV": frame.to_ndarray(format="rgb24"),
        "PyAV, told": frame.to_ndarray(format="rgb24", src_colorspace="ITU709" if "709" in path else "ITU601"),
    }


print(*(f"{name} {version(name)}" for name in ("av", "imageio", "opencv-python-headless", "decord")))
wrong = set()
for matrix in ("bt709", "smpte170m"):
    write(f"{matrix}.mp4", matrix)
    space, pictures = readings(f"{matrix}.mp4")
    for name, picture in pictures.items():
        found = picture[360, 640].astype(int)
        off = int(np.abs(found - PAINTED).max())
        print(f"{matrix} (frame.colorspace {space}), {name}: {tuple(found.tolist())}")
        if off > 4:
            wrong.add((matrix, name, off > 15))
expected = {("bt709", name, True) for name in ("PyAV", "PyAV, told", "imageio pyav")} if OLD else set()
raise SystemExit(0 if wrong == expected else 1)
PY
cd "$folder"
"$folder/16/bin/python" read.py
"$folder/17/bin/python" read.py
