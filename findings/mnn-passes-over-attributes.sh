#!/usr/bin/env bash
# MNN 3.6.1: its converter refuses operators that it does not know, but takes known ones with attributes that it does not heed, and computes
# what they mean without them: `auto_pad=SAME_LOWER` as SAME_UPPER, `fmod=1` of Mod, `select_last_index` of ArgMax, and of Resize
# `antialias` and `cubic_coeff_a`. Round takes halves away from 0, ONNX's to the even number. The shape is right and nothing is said at
# conversion or at inference (of other values of `nearest_mode` the converter does speak). Each of them with its default value is right.
#
#   share of values that differ from onnxruntime: Conv SAME_LOWER 1.0, SAME_UPPER 0.0; Mod fmod=1 0.5, fmod=1 of what is positive 0.0; ArgMax
#   select_last_index 0.5, without 0.0; Resize antialias 1.0, without 0.0, cubic with -0.5 1.0, with -0.75 0.0; Round of halves 0.6
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
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(0)
IMAGE = random.standard_normal((1, 2, 8, 10)).astype(np.float32)
WEIGHT = random.standard_normal((4, 2, 3, 3)).astype(np.float32)
HALVES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5], np.float32).reshape(1, 1, 2, 4)
TIES = np.array([1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0, 1, 0, 1, 0], np.float32).reshape(1, 2, 2, 4)


def apart(operator, image, constants=(), opset=18, cast=False, **attributes):
    """The share of values in which MNN and onnxruntime differ."""
    initializers = [numpy_helper.from_array(value, f"c{place}") for place, value in enumerate(constants) if value is not None]
    inputs = ["x", *("" if value is None else f"c{place}" for place, value in enumerate(constants))]
    nodes = [helper.make_node(operator, inputs, ["z" if cast else "y"], **attributes)]
    if cast:
        nodes.append(helper.make_node("Cast", ["z"], ["y"], to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, "model.onnx")
    # The converter itself, without the program around it.
    _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", "model.onnx", "--MNNModel", "model.mnn", "--bizCode", "none"])
    one = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": image})[0]
    given = expr.placeholder(list(image.shape), expr.NCHW, expr.float)
    given.write(image)
    other = np.array(expr.convert(nn.load_module_from_file("model.mnn", ["x"], ["y"]).forward([given])[0], expr.NCHW).read())
    return float((np.abs(one - other) > 1e-3).mean().round(1)) if one.shape == other.shape else "another shape"


def resize(mode, height, width, **attributes):
    return apart("Resize", IMAGE, [None, None, np.array([1, 2, height, width], np.int64)], mode=mode, **attributes)


def convolve(pad):
    return apart("Conv", IMAGE, [WEIGHT], kernel_shape=[3, 3], strides=[2, 2], auto_pad=pad)


def modulo(image):
    return apart("Mod", image, [np.float32(0.7)], fmod=1)


heeded = {
    "Conv SAME_UPPER": convolve("SAME_UPPER"),
    "Mod fmod=1, positive": modulo(np.abs(IMAGE)),
    "ArgMax": apart("ArgMax", TIES, axis=1, keepdims=1, cast=True),
    "Resize linear": resize("linear", 3, 4),
    "Resize cubic -0.75": resize("cubic", 4, 5, cubic_coeff_a=-0.75),
}
not_heeded = {
    "Conv SAME_LOWER": convolve("SAME_LOWER"),
    "Mod fmod=1": modulo(IMAGE),
    "ArgMax select_last_index": apart("ArgMax", TIES, axis=1, keepdims=1, select_last_index=1, cast=True),
    "Resize antialias": resize("linear", 3, 4, antialias=1),
    "Resize cubic -0.5": resize("cubic", 4, 5, cubic_coeff_a=-0.5),
    "Round of halves": apart("Round", HALVES),
}
good = set(heeded.values()) == {0} and all(isinstance(share, float) and share > 0.2 for share in not_heeded.values())
os.write(3, f"MNN {version('MNN')}, differ from onnxruntime: {not_heeded}; as by default: {heeded}\n".encode())
if not good:
    os.write(3, b"this has changed\n")
raise SystemExit(0 if good else 1)
PY
