#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: `cv2.dnn` refuses ONNX operators that it does not know, but reads a Resize with `antialias=1`, which
# torch exports for `F.interpolate(antialias=True)`, as one without, in all of its engines: of an image reduced to a quarter, every
# value comes from four pixels instead of 64. Pooling with ceil_mode keeps the windows that lie in the padding alone, which
# torch and onnxruntime leave out: one row and column more, of -3.4e38 (MaxPool) or NaN (AveragePool). Nothing is said.
#
#   Resize to a quarter with antialias: difference to onnxruntime 1.3, to onnxruntime without antialias 0.0
#   pooling 2, stride 2, padding 1, ceil_mode, of 7x7 ones: onnxruntime 4x4, cv2.dnn MaxPool 5x5, last -3.4e+38, AveragePool 5x5, nan
#
# Answered by docs/models.md, which says what exported files are to be run with; `models export` compares them there before it writes
# one. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'opencv-python-headless==5.0.0.93' 'onnx==1.23.2' 'onnxruntime==1.32.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
from importlib.metadata import version

import cv2
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

onnxruntime.set_default_logger_severity(3)


def model(kind, inputs, shape, constants=(), **attributes):
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    found = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])
    graph = helper.make_graph([helper.make_node(kind, inputs, ["y"], **attributes)], "one", [given], [found], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def by_onnxruntime(file, x):
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def by_opencv(file, x, engine=cv2.dnn.ENGINE_AUTO):
    network = cv2.dnn.readNetFromONNX(np.frombuffer(file, np.uint8), engine)
    network.setInput(x)
    return network.forward()


x = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
scales = [numpy_helper.from_array(np.array([1, 1, 0.25, 0.25], np.float32), "scales")]
smooth, plain = (model("Resize", ["x", "", "scales"], x.shape, scales, mode="linear", antialias=each) for each in (1, 0))
print(f"OpenCV {version('opencv-python-headless')}, onnxruntime {onnxruntime.__version__}: Resize to a quarter with antialias:")
changed = False
for engine in ("ENGINE_AUTO", "ENGINE_CLASSIC", "ENGINE_NEW"):
    y = by_opencv(smooth, x, getattr(cv2.dnn, engine))
    apart, same = (float(np.abs(y - by_onnxruntime(each, x)).max()) for each in (smooth, plain))
    print(f"  {engine}: difference to onnxruntime {apart:.1f}, to onnxruntime without antialias {same:.1f}")
    changed |= apart < 0.1 or same > 1e-4
ones = np.ones((1, 1, 7, 7), np.float32)
for kind in ("MaxPool", "AveragePool"):
    file = model(kind, ["x"], ones.shape, kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
    right, y = by_onnxruntime(file, ones), by_opencv(file, ones)
    last = float(y[0, 0, -1, -1])
    print(f"  {kind} with ceil_mode of 7x7: onnxruntime {right.shape[2:]}, last {right[0, 0, -1, -1]:g}; cv2.dnn {y.shape[2:]}, last {last:g}")
    changed |= right.shape != (1, 1, 4, 4) or y.shape != (1, 1, 5, 5) or not (last < -3e38 or np.isnan(last))
raise SystemExit("this has changed" if changed else 0)
PY
