#!/usr/bin/env bash
# ncnn 1.0.20261020, Python: what takes a numpy array goes by its shape and reads its memory in a row, whatever the strides are. A region
# cut out of a frame, as every program does that looks at a part of the picture, comes out as the first rows of the frame from the
# region's corner on, folded to its width; a frame turned to channels first by `transpose` keeps its shape and is scrambled. No error,
# and the shape that comes back is right. `np.ascontiguousarray` before it puts it right; MNN 3.6.1 heeds the strides.
#
#   values that differ: Mat.from_pixels of a frame 0, of a region of it 0.93, made contiguous 0; Mat of a transposed array 1.00, made
#   contiguous 0; MNN of the transposed array 0
#
# Answered by dance_ondevice/runtime/frames.py (`FrameInput`): what a network gets is a buffer of its own, contiguous. Needs python3 and a
# network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'ncnn==1.0.20261020' 'MNN==3.6.1' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import MNN.expr
import ncnn
import numpy as np

frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
region = frame[8:24, 16:40]
planes = frame.astype(np.float32).transpose(2, 0, 1)


def pixels(image):
    """The image as ncnn holds it, (3, h, w)."""
    return np.array(ncnn.Mat.from_pixels(image, ncnn.Mat.PixelType.PIXEL_BGR, image.shape[1], image.shape[0]))


def apart(held, image):
    return float((held != image).mean().round(2))


def by_mnn(array):
    return np.array(MNN.expr.const(array, list(array.shape), MNN.expr.NCHW, MNN.expr.float).read())


seen = {
    "frame": apart(pixels(frame), planes),
    "region": apart(pixels(region), region.transpose(2, 0, 1)),
    "region, contiguous": apart(pixels(np.ascontiguousarray(region)), region.transpose(2, 0, 1)),
    "transposed": apart(np.array(ncnn.Mat(planes)), planes),
    "transposed, contiguous": apart(np.array(ncnn.Mat(np.ascontiguousarray(planes))), planes),
    "transposed, MNN": apart(by_mnn(planes), planes),
}
print(f"ncnn {version('ncnn')}, MNN {version('MNN')}: values that differ: {seen}")
wrong = {name for name, share in seen.items() if share > 0.5}
right = {name for name, share in seen.items() if share == 0}
raise SystemExit(0 if wrong == {"region", "transposed"} and len(right) == 4 else "this has changed")
PY
