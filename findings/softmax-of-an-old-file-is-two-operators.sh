#!/usr/bin/env bash
# onnxruntime 1.32.0, OpenVINO 2026.4.1, tract 0.23.9, opencv-python-headless 5.0.0.93 and onnx 1.23.2's ReferenceEvaluator: up to opset 12
# a Softmax with `axis=1` is one over all that follows, classes and pixels together, so that the probabilities of a whole image add
# up to 1. onnxruntime and tract compute that; OpenVINO, cv2.dnn and the reference take the classes of each pixel, as from opset 13
# on. The mask is the same, the confidence is not: where it decides what is labelled or shown, a file that "works" in one engine
# is sure of nothing in the next. LogSoftmax of the same opset: OpenVINO changes sides.
#
#   opset 12, 3 classes of 2x2 pixels, sum of a pixel's probabilities: onnxruntime 0.25, tract 0.25, OpenVINO 1.00, cv2.dnn 1.00,
#   onnx.reference 1.00; from LogSoftmax: onnxruntime 0.25, tract 0.25, OpenVINO 0.25, cv2.dnn 1.00, onnx.reference 1.00
#
# Answered by daemon/trainer/teacher_models.py (`_by_pixel`): a teacher's probabilities are told from logits in both forms.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxruntime==1.32.0' 'openvino==2026.4.1' 'tract==0.23.9' \
  'opencv-python-headless==5.0.0.93' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - "$folder/n.onnx" <<'PY'
import sys
from importlib.metadata import version

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
import tract
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

path = sys.argv[1]
scores = np.zeros((1, 3, 2, 2), np.float32)
scores[:, 0] = 2


def answers(kind):
    """What each engine gives for an operator of opset 12 over the classes."""
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, scores.shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"], axis=1)], "one", sides[:1], sides[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8), path)
    net = cv2.dnn.readNetFromONNX(path)
    net.setInput(scores)
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {
        "onnxruntime": onnxruntime.InferenceSession(path).run(None, {"x": scores})[0],
        "tract": tract.onnx().load(path).into_model().into_runnable().run([scores])[0].to_numpy(),
        "openvino": compiled(scores)[0],
        "opencv-python-headless": net.forward(),
        "onnx": ReferenceEvaluator(path).run(None, {"x": scores})[0],
    }


softmax = {name: round(float(value.sum(axis=1)[0, 0, 0]), 2) for name, value in answers("Softmax").items()}
logarithm = {name: round(float(np.exp(value).sum(axis=1)[0, 0, 0]), 2) for name, value in answers("LogSoftmax").items()}
print(", ".join(f"{name} {version(name)}" for name in softmax))
print(f"sum of a pixel's probabilities, opset 12: Softmax {softmax}; LogSoftmax {logarithm}")
good = list(softmax.values()) == [0.25, 0.25, 1, 1, 1] and list(logarithm.values()) == [0.25, 0.25, 0.25, 1, 1]
raise SystemExit(0 if good else "this has changed")
PY
