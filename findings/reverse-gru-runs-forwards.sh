#!/usr/bin/env bash
# tract 0.23.9 and opencv-python-headless 5.0.0.93 (cv2.dnn): a GRU with `direction="reverse"`, as Keras's `go_backwards` is exported, goes
# through the sequence forwards, in tract an LSTM too, with no error. As "bidirectional", whose second half is the same thing, both
# engines read it backwards, so that a test with that passes. onnxruntime and OpenVINO agree on all.
#
#   largest difference to onnxruntime: GRU reverse: tract 0.7, cv2.dnn 0.7, and both as for forward; LSTM reverse: tract 0.5, cv2.dnn 0.0;
#   GRU bidirectional and forward: 0.0 in all; OpenVINO 0.0 in all
#
# Answered by dance_ondevice/runtime/comparing.py, which takes an engine only where its masks agree with those of torch.
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
from onnx import TensorProto, helper, numpy_helper, shape_inference

path = sys.argv[1]
HIDDEN = 5
sequence = np.random.default_rng(0).standard_normal((6, 2, 3)).astype(np.float32)


def answers(kind, direction):
    """Outputs of one recurrent layer, by engine."""
    values = np.random.default_rng(1)
    ways, gates = (2 if direction == "bidirectional" else 1), {"GRU": 3, "LSTM": 4}[kind]
    shapes = {"w": (ways, gates * HIDDEN, 3), "r": (ways, gates * HIDDEN, HIDDEN), "b": (ways, 2 * gates * HIDDEN)}
    constants = [numpy_helper.from_array(values.standard_normal(shape).astype(np.float32), name) for name, shape in shapes.items()]
    node = helper.make_node(kind, ["x", *shapes], ["y", "h"], hidden_size=HIDDEN, direction=direction)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, sequence.shape)
    found = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [6, ways, 2, HIDDEN])]
    found.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [ways, 2, HIDDEN]))
    graph = helper.make_graph([node], "one", [given], found, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(shape_inference.infer_shapes(model), path)
    net = cv2.dnn.readNetFromONNX(path)
    net.setInput(sequence, "x")
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = {
        "onnxruntime": onnxruntime.InferenceSession(path).run(None, {"x": sequence})[0],
        "openvino": compiled(sequence)[0],
        "tract": tract.onnx().load(path).into_model().into_runnable().run([sequence])[0].to_numpy(),
        "opencv-python-headless": net.forward(["y", "h"])[0],
    }
    return {name: value.reshape(outputs["onnxruntime"].shape) for name, value in outputs.items()}


def off(found):
    """Largest difference of each engine to onnxruntime."""
    return {name: round(float(np.abs(value - found["onnxruntime"]).max()), 1) for name, value in found.items()}


forward, reverse = answers("GRU", "forward"), answers("GRU", "reverse")
print(", ".join(f"{name} {version(name)}" for name in forward))
seen = {"GRU forward": off(forward), "GRU reverse": off(reverse)}
for kind, direction in (("GRU", "bidirectional"), ("LSTM", "reverse")):
    seen[f"{kind} {direction}"] = off(answers(kind, direction))
for name, differences in seen.items():
    print(f"{name}: largest difference to onnxruntime {differences}")
wrong = ("tract", "opencv-python-headless")
same = {name: bool(np.abs(reverse[name] - forward[name]).max() < 1e-4) for name in wrong}
print(f"the answer for reverse is the one for forward: {same}")
off_by = {name: {engine for engine, value in differences.items() if value > 0.1} for name, differences in seen.items()}
good = all(same.values()) and list(off_by.values()) == [set(), set(wrong), set(), {"tract"}]
raise SystemExit(0 if good else "this has changed")
PY
