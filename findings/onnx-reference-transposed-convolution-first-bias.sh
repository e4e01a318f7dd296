#!/usr/bin/env bash
# onnx 1.23.2: `onnx.reference.ReferenceEvaluator`, by which engines and exporters are judged, adds the bias of the first channel to every
# channel of a depthwise ConvTranspose (one channel a group), as learnt upsampling is written. Without a bias it is right, and so is
# one group; with several channels a group the same network does not run at all (ValueError). A comparison against it
# blames the engine that is right.
#
#   biases 1, 20, 300, error of each channel: onnx.reference 0, 19, 299, onnxruntime against numpy 0, 0, 0; without bias 0, 0, 0
#
# Answered by dance_ondevice/runtime/comparing.py, which compares engines with torch. Needs python3 and a network. Ends with status 1 if
# it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxruntime==1.32.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

values = np.random.default_rng(0)
image = values.normal(size=(1, 3, 3, 3)).astype(np.float32)
weight, bias = values.normal(size=(3, 1, 2, 2)).astype(np.float32), np.float32([1, 20, 300])
kept = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")]
try:
    pair = helper.make_graph(
        [helper.make_node("ConvTranspose", ["x", "weight", "bias"], ["y"], group=2, strides=[2, 2])],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])],
        [numpy_helper.from_array(np.ones((4, 2, 2, 2), np.float32), "weight"), numpy_helper.from_array(np.zeros(4, np.float32), "bias")],
    )
    two = helper.make_model(pair, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    ReferenceEvaluator(two).run(None, {"x": np.ones((1, 4, 3, 3), np.float32)})
    raised = "nothing"
except ValueError as error:
    raised = f"ValueError: {error}"
print(f"two channels a group: {raised}")
good = raised.startswith("ValueError")
for inputs in (["x", "weight", "bias"], ["x", "weight"]):
    graph = helper.make_graph(
        [helper.make_node("ConvTranspose", inputs, ["y"], group=3, strides=[2, 2])],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 6, 6])],
        kept[: len(inputs) - 1],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    # With a stride as large as the kernel each pixel becomes a block of its own: a Kronecker product.
    right = np.stack([np.kron(image[0, c], weight[c, 0]) for c in range(3)])[None]
    right = right + (bias[:, None, None] if "bias" in inputs else 0)
    found = {
        "onnx.reference": ReferenceEvaluator(model).run(None, {"x": image})[0],
        "onnxruntime": onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": image})[0],
    }
    errors = {name: [round(float(e), 3) for e in np.abs(answer - right).max((0, 2, 3))] for name, answer in found.items()}
    print(f"onnx {version('onnx')}, onnxruntime {version('onnxruntime')}: {' and '.join(inputs[1:])}: error by channel {errors}")
    good &= max(errors["onnxruntime"]) < 0.01 and (errors["onnx.reference"] == [0, 19, 299]) == ("bias" in inputs)
raise SystemExit(0 if good else "this has changed")
PY
