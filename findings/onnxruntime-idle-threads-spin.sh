#!/usr/bin/env bash
# onnxruntime 1.23.2: between two calls of `run` its second thread keeps looking for work instead of sleeping. At ten images a
# second of a small network, as from a camera, the CPU time (what a meter sees) is several times that of one thread;
# in a benchmark that calls back to back it hides behind the speed that two threads give.
#
#   CPU ms an image: 1 thread 3.5, 2 threads 8.5, 2 threads without spinning 3.4
#
# Answered by dance_ondevice/runtime/engines.py (`session.intra_op.allow_spinning`).
# Needs python3, a network and 2 cores. Ends with status 1 if two threads cost less than 1.5 times as much.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnxruntime==1.23.2' 'onnx==1.23.2' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

values, nodes, weights, last = np.random.default_rng(0), [], [], "x"
for index in range(8):
    weight = (values.standard_normal((32, 32, 3, 3)) / 20).astype(np.float32)
    weights.append(numpy_helper.from_array(weight, f"w{index}"))
    nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"y{index}"], pads=[1, 1, 1, 1]))
    last = f"y{index}"
ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 32, 48, 48])] for name in ("x", last)]
graph = helper.make_graph(nodes, "graph", *ends, weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def milliseconds(threads, **config):
    """CPU time of one image when they come at ten a second."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    for key, value in config.items():
        options.add_session_config_entry(f"session.intra_op.{key}", value)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    image = {"x": np.zeros((1, 32, 48, 48), np.float32)}
    session.run(None, image)
    start = time.process_time()
    for _ in range(30):
        session.run(None, image)
        time.sleep(0.1)
    return (time.process_time() - start) / 30 * 1000


one, two, still = milliseconds(1), milliseconds(2), milliseconds(2, allow_spinning="0")
print(f"onnxruntime {onnxruntime.__version__}: CPU ms an image: 1 thread {one:.1f}, 2 threads {two:.1f}, "
      f"2 threads without spinning {still:.1f}")
raise SystemExit(0 if two > 1.5 * one and two > 1.5 * still else "this has changed")
PY
