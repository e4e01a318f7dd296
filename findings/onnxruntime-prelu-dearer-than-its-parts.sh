#!/usr/bin/env bash
# onnxruntime 1.32.0, CPU: a PRelu with a slope for each channel takes several times as long as the same function written as
# four operators, slope * x + (1 - slope) * Relu(x): it is computed value by value, and it keeps the convolution before it
# from staying in the blocked layout. The guess that one operator beats four is wrong.
#
#   convolution, activation, convolution on (1, 32, 176, 240), CPU time relative to Relu: PRelu 4.0, the four 1.5, LeakyRelu 1.1
#
# Answered by dance_ondevice/runtime/formats.py, which writes PReLU as a sum. Needs python3, a network and x86-64 with AVX2 or
# better; ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnxruntime==1.32.0' 'onnx==1.23.2' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import statistics
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CHANNELS, HEIGHT, WIDTH, TURNS = 32, 176, 240, 40
values = np.random.default_rng(0)
slope = values.uniform(0.0, 0.5, (CHANNELS, 1, 1)).astype(np.float32)
constants = {
    "first": values.standard_normal((CHANNELS, 3, 3, 3)).astype(np.float32),
    "last": values.standard_normal((CHANNELS, CHANNELS, 1, 1)).astype(np.float32),
    "slope": slope,
    "rest": 1 - slope,
}
WAYS = {
    "Relu": [helper.make_node("Relu", ["c"], ["y"])],
    "LeakyRelu": [helper.make_node("LeakyRelu", ["c"], ["y"], alpha=0.25)],
    "PRelu": [helper.make_node("PRelu", ["c", "slope"], ["y"])],
    "the four": [
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Mul", ["r", "rest"], ["a"]),
        helper.make_node("Mul", ["c", "slope"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ],
}


def session(nodes: list) -> onnxruntime.InferenceSession:
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["c"], pads=[1, 1, 1, 1]),
        *nodes,
        helper.make_node("Conv", ["y", "last"], ["z"]),
    ]
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "activation",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, CHANNELS, HEIGHT, WIDTH])],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name in read],
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


x = values.standard_normal((1, 3, HEIGHT, WIDTH)).astype(np.float32)
sessions = {name: session(nodes) for name, nodes in WAYS.items()}
results = {name: each.run(None, {"x": x})[0] for name, each in sessions.items()}
assert np.allclose(results["PRelu"], results["the four"], atol=1e-3)
seconds = {name: [] for name in sessions}
for _ in range(TURNS):
    for name, each in sessions.items():
        began = time.process_time()
        each.run(None, {"x": x})
        seconds[name].append(time.process_time() - began)
middle = {name: statistics.median(times) for name, times in seconds.items()}
ratio = {name: middle[name] / middle["Relu"] for name in middle}
print(f"onnxruntime {onnxruntime.__version__}: CPU time relative to Relu: "
      + ", ".join(f"{name} {value:.1f}" for name, value in ratio.items()))
raise SystemExit("this has changed" if ratio["PRelu"] < 1.5 * ratio["the four"] else 0)
PY
