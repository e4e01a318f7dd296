#!/usr/bin/env bash
# MNN 3.6.1: a bicubic enlargement as torch exports `F.interpolate(mode="bicubic")` (half_pixel) has a first row and a first column that are
# taken one pixel aside: their place in the image is a little before its first pixel, -0.25 at a factor of 2, and the fraction is cut towards
# 0 where it is to be rounded down, so that they come from 0.75. In all other rows and columns, with `align_corners`, with bilinear
# enlargement and where an image is reduced it is right, so that masks look right but for an edge on two sides; each further such
# layer carries it on inwards.
#
#   a ramp from 0 to 150 (4x4) enlarged twice, first row: onnxruntime -5 to 27, MNN 33 to 58; largest difference in the first row and column
#   38.7, elsewhere 0.0; with align_corners 0.0, linear 0.0, reduced to 3x3 0.0
#
# Answered by dance_ondevice/runtime/comparing.py, which takes an engine only where its masks agree with those of torch; MNN is not one of
# those offered. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'MNN==3.6.1' 'onnx==1.23.2' 'onnxruntime==1.32.0' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" - 3>&1 >/dev/null 2>&1 <<'PY'
import os
from importlib.metadata import version

import _tools
import numpy as np
import onnx
import onnxruntime
from MNN import expr, nn
from onnx import TensorProto, helper

X = np.arange(0, 160, 10, np.float32).reshape(1, 1, 4, 4)


def resized(side, mode="cubic", transformation="half_pixel"):
    """What onnxruntime and MNN make of the ramp, (side, side) each."""
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 1, side, side])
    ways = {"mode": mode, "coordinate_transformation_mode": transformation, "cubic_coeff_a": -0.75}
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **ways)],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, side, side])],
        [sizes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, "model.onnx")
    # The converter itself, without the program around it.
    _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", "model.onnx", "--MNNModel", "model.mnn", "--bizCode", "none"])
    one = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": X})[0]
    given = expr.placeholder(list(X.shape), expr.NCHW, expr.float)
    given.write(X)
    other = np.array(expr.convert(nn.load_module_from_file("model.mnn", ["x"], ["y"]).forward([given])[0], expr.NCHW).read())
    return one[0, 0], other[0, 0]


def apart(one, other):
    return round(float(np.abs(one - other).max()), 1)


one, other = resized(8)
edge = min(apart(one[0], other[0]), apart(one[:, 0], other[:, 0])), max(apart(one[0], other[0]), apart(one[:, 0], other[:, 0]))
inside = apart(one[1:, 1:], other[1:, 1:])
rest = {
    "align_corners": apart(*resized(8, transformation="align_corners")),
    "linear": apart(*resized(8, mode="linear")),
    "reduced": apart(*resized(3)),
}
told = f"MNN {version('MNN')}: first row: onnxruntime {one[0].round().tolist()}, MNN {other[0].round().tolist()}; difference in the first row "
told += f"and column {edge}, elsewhere {inside}; {rest}\n"
good = edge[0] > 5 and inside == 0 and set(rest.values()) == {0}
os.write(3, (told if good else f"{told}this has changed\n").encode())
raise SystemExit(0 if good else 1)
PY
