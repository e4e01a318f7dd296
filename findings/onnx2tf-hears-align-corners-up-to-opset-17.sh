#!/usr/bin/env bash
# onnx2tf 1.29.24 (the last for Python before 3.12), by which ONNX files become TFLite for boards: a linear Resize is read by its
# `coordinate_transformation_mode` up to opset 17. From 18 on, which torch writes today, align_corners and asymmetric are passed over
# and all are half_pixel: the same network, exported with a newer opset, has its maps half a pixel and more aside. A CumSum takes its axis
# as it stands, while channels move to the end, so that the sum over rows is one over columns, the one over classes over rows. An
# AveragePool with SAME_LOWER comes out with a column less, padded on one axis alone. Its check of the result (`-cotof`) is off unless asked
# for, and nothing warns. Release 2.6.9 still has that line about opset 17 in its TensorFlow converter; it was read, not run.
#
#   8x8 to 4x4, last value: align_corners 63.0, converted 63.0 of opset 17, 58.5 of 18; asymmetric 54.0, 54.0 and 58.5; CumSum of axis 1, 2
#   and 3 63, 280, 476, converted 280, 476, 63; SAME_LOWER 4x4, converted 4x3
#
# Answered by dance_ondevice/models/layers.py (`resize`), whose exports are half_pixel; none of our networks has the other two operators.
# Needs python3 of 3.10 or 3.11 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx2tf==1.29.24' 'tensorflow==2.19.0' 'tf-keras==2.19.0' 'onnx==1.19.1' 'onnxruntime==1.23.0' \
  'numpy==1.26.4'
"$folder/venv/bin/python" -W ignore - "$folder" 2>"$folder/errors" <<'PY' || { status=$?; tail -n 40 "$folder/errors"; exit $status; }
import contextlib
import glob
import io
import os
import sys
from importlib.metadata import version

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")

import numpy as np
import onnx
import onnx2tf
import onnxruntime
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

folder = sys.argv[1]
image = np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8).repeat(2, 1)


def both(name, node, opset=18, **constants):
    """Returns what onnxruntime and the converted file make of one operator, (channels, height, width)."""
    sides = helper.make_tensor_value_info("x", TensorProto.FLOAT, image.shape), helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", sides[:1], sides[1:], [numpy_helper.from_array(v, k) for k, v in constants.items()])
    path = f"{folder}/{name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    right = onnxruntime.InferenceSession(path).run(None, {"x": image})[0]
    with contextlib.redirect_stdout(io.StringIO()):
        onnx2tf.convert(input_onnx_file_path=path, output_folder_path=f"{folder}/{name}", non_verbose=True, verbosity="error")
    (file,) = glob.glob(f"{folder}/{name}/*_float32.tflite")
    engine = tf.lite.Interpreter(file)
    engine.allocate_tensors()
    engine.set_tensor(engine.get_input_details()[0]["index"], image.transpose(0, 2, 3, 1))
    engine.invoke()
    return right[0], engine.get_tensor(engine.get_output_details()[0]["index"])[0].transpose(2, 0, 1)


half = np.array([1, 1, 0.5, 0.5], np.float32)
found = {}
for opset in (17, 18):
    for way in ("half_pixel", "align_corners", "asymmetric"):
        node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="linear", coordinate_transformation_mode=way)
        found[f"{way}, opset {opset}"] = both(f"{way}{opset}", node, opset, s=half)
for axis in (1, 2, 3):
    found[f"CumSum of axis {axis}"] = both(f"sum{axis}", helper.make_node("CumSum", ["x", "a"], ["y"]), a=np.array(axis))
for side in ("SAME_UPPER", "SAME_LOWER"):
    found[side] = both(side, helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], auto_pad=side))
seen = {}
for name, (right, converted) in found.items():
    seen[name] = right.shape == converted.shape and bool(np.allclose(right, converted, atol=0.01))
    ends = [[round(float(one[0, 0, 0]), 1), round(float(one[0, -1, -1]), 1), f"{one.shape[1]}x{one.shape[2]}"] for one in (right, converted)]
    print(f"onnx2tf {version('onnx2tf')}: {name}: first value, last value and size: onnxruntime {ends[0]}, converted {ends[1]}")
wrong = ["align_corners, opset 18", "asymmetric, opset 18", *(f"CumSum of axis {axis}" for axis in (1, 2, 3)), "SAME_LOWER"]
raise SystemExit(0 if [name for name, same in seen.items() if not same] == wrong else "this has changed")
PY
