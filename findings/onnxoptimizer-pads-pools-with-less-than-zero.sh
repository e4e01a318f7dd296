#!/usr/bin/env bash
# onnxoptimizer 0.4.2: its default passes take a Pad with zeros in front of a MaxPool into the pooling's own padding. That one is minus
# infinity: where all values at an edge are below 0 (after LeakyReLU, SiLU, a convolution), the largest of the window was the
# padded 0 and is now one of the values. Keras, Darknet and TensorFlow write a ZeroPadding2D in front of their pooling. Only the
# edges differ, so that a picture of the result looks right. onnxsim, onnxslim and onnxruntime's optimiser leave it as it is.
#
#   Pad of 0 and MaxPool of -1 everywhere, first value: as written 0, onnxoptimizer -1, onnxsim 0, onnxslim 0; an AveragePool stays right
#
# Answered by daemon/commands/models/export.py: what is exported goes through no simplifier, and is compared with its model.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxruntime==1.32.0' 'onnxsim==0.8.1' 'onnxslim==0.1.98' \
  'onnxoptimizer==0.4.2' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
import contextlib
import io
from importlib.metadata import version

import numpy as np
import onnx
import onnxoptimizer
import onnxruntime
import onnxsim
import onnxslim
from onnx import TensorProto, helper, numpy_helper

image = np.full((1, 4, 8, 8), -1, np.float32)


def padded(kind):
    """A pooling 3x3 with stride 2 behind a Pad with zeros of one pixel all around."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, image.shape)
    found = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 4, 4])
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"]),
        helper.make_node(kind, ["p"], ["y"], kernel_shape=[3, 3], strides=[2, 2]),
    ]
    pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads")
    graph = helper.make_graph(nodes, "pool", [given], [found], [pads])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def first(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return round(float(session.run(None, {"x": image})[0][0, 0, 0, 0]), 2)


seen = {}
for kind in ("MaxPool", "AveragePool"):
    seen[kind] = {"as written": first(padded(kind))}
    with contextlib.redirect_stdout(io.StringIO()):
        seen[kind]["onnxoptimizer"] = first(onnxoptimizer.optimize(padded(kind)))
        seen[kind]["onnxsim"] = first(onnxsim.simplify(padded(kind))[0])
        seen[kind]["onnxslim"] = first(onnxslim.slim(padded(kind)))
print(", ".join(f"{name} {version(name)}" for name in ("onnxoptimizer", "onnxsim", "onnxslim", "onnxruntime")))
print(f"Pad of 0 and pooling of -1 everywhere, first value: {seen}")
largest, mean = seen["MaxPool"], seen["AveragePool"]
good = list(largest.values()) == [0, -1, 0, 0] and len(set(mean.values())) == 1
raise SystemExit(0 if good else "this has changed")
PY
