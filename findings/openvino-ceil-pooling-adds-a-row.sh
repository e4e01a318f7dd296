#!/usr/bin/env bash
# OpenVINO 2026.4.1, pooling with ceil_mode from ONNX: windows that begin in the padding behind the image are left out by torch and
# onnxruntime, but not by OpenVINO's MaxPool: on an odd size its output has one more row and column, and they hold the
# lowest float, -3.4e38. Its AveragePool divides windows that stick out by the whole kernel, where the other two count
# what lies within the padded image. Nothing is said, at no opset from 13 to 22, and at other sizes all agree.
#
#   MaxPool 2, stride 2, padding 1, of ones: 7x7 -> 4x4 with onnxruntime, 5x5 with OpenVINO, whose least value is -3.4e+38;
#   6x6 -> 4x4 with both; AveragePool 3, stride 2, padding 1: last corner 0.25 and 0.11
#
# Answered by dance_ondevice/runtime/comparing.py, which takes an engine only where its masks agree with those of torch.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'openvino==2026.4.1' 'onnx==1.23.2' 'onnxruntime==1.32.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper

onnxruntime.set_default_logger_severity(3)
core = openvino.Core()


def pooled(kind, side, opset, **attributes):
    """What onnxruntime and OpenVINO make of an image of ones."""
    x = np.ones((1, 1, side, side), np.float32)
    node = helper.make_node(kind, ["x"], ["y"], ceil_mode=1, strides=[2, 2], pads=[1, 1, 1, 1], **attributes)
    graph = helper.make_graph(
        [node],
        "pooling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()
    one = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    other = core.compile_model(core.read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]
    return one[0, 0], other[0, 0]


print(f"OpenVINO {openvino.__version__.split('-')[0]}, onnxruntime {onnxruntime.__version__}")
changed = False
for opset in (13, 17, 22):
    told = []
    for side in (6, 7):
        one, other = pooled("MaxPool", side, opset, kernel_shape=[2, 2])
        told.append(f"MaxPool of {side}x{side}: {one.shape} and {other.shape}, least values {one.min():g} and {other.min():g}")
        more = side % 2
        changed |= other.shape != (4 + more, 4 + more) or one.shape != (4, 4) or (other.min() < -3e38) != bool(more)
    one, other = pooled("AveragePool", 8, opset, kernel_shape=[3, 3], count_include_pad=1)
    told.append(f"AveragePool of 8x8: last corner {one[-1, -1]:.2f} and {other[-1, -1]:.2f}")
    changed |= not np.allclose([one[-1, -1], other[-1, -1]], [1 / 4, 1 / 9]) or not np.allclose(one[:-1, :-1], other[:-1, :-1])
    print(f"  opset {opset}: " + "; ".join(told))
raise SystemExit("this has changed" if changed else 0)
PY
