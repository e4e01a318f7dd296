#!/usr/bin/env bash
# OpenVINO 2026.4.1, tract 0.23.9 and opencv-python-headless 5.0.0.93: a NaN does not outlive their ReLU, in cv2.dnn not even a bare
# convolution. A network whose weights are NaN, as after a training that diverged, gives NaN everywhere in torch and onnxruntime;
# in these three it goes on answering, with finite scores that pass a check for NaN behind the last layer, and with a mask.
# IEEE's maximum of 0 and NaN may be either, ONNX says nothing.
#
#   NaN in 1 of 4 filters, then ReLU, then 1x1, share of answers that are NaN: onnxruntime 1.0, OpenVINO 0.0, tract 0.0, cv2.dnn 0.0
#   the same without ReLU: onnxruntime 1.0, OpenVINO 1.0, tract 1.0, cv2.dnn 0.0
#
# Answered by dance_ondevice/models/checkpoint.py (`not_finite`): weights are looked at, not answers.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxruntime==1.32.0' 'openvino==2026.4.1' 'tract==0.23.9' \
  'opencv-python-headless==5.0.0.93' 'numpy==2.2.6'
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
from importlib.metadata import version

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
import tract
from onnx import TensorProto, helper, numpy_helper

values = np.random.default_rng(0)
first, last = (values.normal(size=size).astype(np.float32) for size in ((4, 3, 3, 3), (2, 4, 1, 1)))
first[1] = np.nan
image = values.normal(size=(1, 3, 16, 16)).astype(np.float32)


def network(path, with_relu):
    nodes = [helper.make_node("Conv", ["x", "first"], ["a"], pads=[1, 1, 1, 1])]
    nodes += [helper.make_node("Relu", ["a"], ["b"])] if with_relu else []
    nodes += [helper.make_node("Conv", [nodes[-1].output[0], "last"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 16, 16])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(last, "last")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)


def answers(path):
    core, net = openvino.Core(), cv2.dnn.readNetFromONNX(path)
    net.setInput(image)
    return {
        "onnxruntime": onnxruntime.InferenceSession(path).run(None, {"x": image})[0],
        "OpenVINO": core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([image])[0],
        "tract": tract.onnx().load(path).into_model().into_runnable().run([image])[0].to_numpy(),
        "cv2.dnn": net.forward(),
    }


names = ("onnx", "onnxruntime", "openvino", "tract", "opencv-python-headless")
print(", ".join(f"{name} {version(name)}" for name in names))
seen = {}
for with_relu in (True, False):
    network(f"{sys.argv[1]}/n.onnx", with_relu)
    shares = {name: float(np.isnan(answer).mean()) for name, answer in answers(f"{sys.argv[1]}/n.onnx").items()}
    seen[with_relu] = tuple(shares.values())
    told = ", ".join(f"{name} {share:.1f}" for name, share in shares.items())
    print(f"NaN in the answers {'with' if with_relu else 'without'} ReLU: {told}")
raise SystemExit(0 if seen == {True: (1, 0, 0, 0), False: (1, 1, 1, 0)} else "this has changed")
PY
