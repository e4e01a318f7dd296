#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: `auto_pad` of ONNX, as TensorFlow's and Keras's "same" is written, says on which side an odd number of
# padded pixels has one more. cv2.dnn puts (kernel - 1) / 2 in front, whatever it says: a 3x3 convolution or pooling with stride 2, as
# at the head of every MobileNet, looks at pixels one row and one column aside on maps with even sides, and SAME_LOWER is not
# heeded at all. The size is right and nothing is said; features and masks are off, by more at each such layer. Odd sides are right,
# so that a test at 65x65 passes. onnxruntime and OpenVINO agree at all of them.
#
#   share of values that differ from onnxruntime, SAME_UPPER, 3x3, stride 2: 10x12 Conv 1.0, MaxPool 0.7; 9x11 0.0, 0.0;
#   SAME_LOWER, 2x2, stride 1: Conv 1.0, MaxPool 0.8; OpenVINO 0.0 in all
#
# Answered by `models export`, which writes the padding as numbers and compares what it wrote (daemon/commands/models/export.py).
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxruntime==1.32.0' 'openvino==2026.4.1' 'opencv-python-headless==5.0.0.93' \
  'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - "$folder/n.onnx" <<'PY'
import sys
from importlib.metadata import version

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

path = sys.argv[1]
values = np.random.default_rng(0)


def differs(kind, sides, kernel, stride, auto_pad):
    """Shares of the values that differ from onnxruntime: cv2.dnn, OpenVINO."""
    image = values.standard_normal((1, 4, *sides)).astype(np.float32)
    weights = numpy_helper.from_array(values.standard_normal((6, 4, kernel, kernel)).astype(np.float32), "w")
    names = ["x", "w"] if kind == "Conv" else ["x"]
    node = helper.make_node(kind, names, ["y"], auto_pad=auto_pad, strides=[stride] * 2, kernel_shape=[kernel] * 2)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, image.shape)
    found = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])
    graph = helper.make_graph([node], "one", [given], [found], [weights] if kind == "Conv" else [])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    right = onnxruntime.InferenceSession(path).run(None, {"x": image})[0]
    net = cv2.dnn.readNetFromONNX(path)
    net.setInput(image)
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [round(float((np.abs(right - other) > 1e-3).mean()), 1) for other in (net.forward(), compiled(image)[0])]


names = ("opencv-python-headless", "onnxruntime", "openvino")
print(", ".join(f"{name} {version(name)}" for name in names))
good = True
for sides, kernel, stride, auto_pad, off in (
    ((10, 12), 3, 2, "SAME_UPPER", True),
    ((9, 11), 3, 2, "SAME_UPPER", False),
    ((10, 12), 2, 1, "SAME_LOWER", True),
):
    for kind in ("Conv", "MaxPool"):
        by_cv2, by_openvino = differs(kind, sides, kernel, stride, auto_pad)
        print(f"{auto_pad}, {sides[0]}x{sides[1]}, {kind} {kernel}x{kernel}, stride {stride}: differs from onnxruntime in a share of "
              f"{by_cv2} (cv2.dnn), {by_openvino} (OpenVINO)")
        good &= (by_cv2 > 0.3) == off and by_openvino == 0
raise SystemExit(0 if good else "this has changed")
PY
