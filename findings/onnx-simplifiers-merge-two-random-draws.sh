#!/usr/bin/env bash
# onnxsim 0.8.1, onnxslim 0.1.98, onnxoptimizer 0.4.2: nodes of the same kind with the same inputs are merged, random ones too. Two draws of
# noise of one shape (two stochastic heads, two samples of a variational layer, noise that is added in two places) become one, so
# that their difference, which was the spread the network was to tell, is 0 in the simplified file, at each run anew. onnxsim's
# own check of the result against the original does not notice. onnxruntime's optimiser leaves them apart.
#
#   share of values in which two RandomNormalLike of one input differ: as written 1.0, onnxsim 0.0, onnxslim 0.0, onnxoptimizer 0.0
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
from onnx import TensorProto, helper

given, found = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8, 8]) for name in "xy")
nodes = [
    helper.make_node("RandomNormalLike", ["x"], ["one"]),
    helper.make_node("RandomNormalLike", ["x"], ["two"]),
    helper.make_node("Sub", ["one", "two"], ["y"]),
]
graph = helper.make_graph(nodes, "spread", [given], [found])
written = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def differing(model):
    """Share of the values in which the two draws differ."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return float((session.run(None, {"x": np.zeros((1, 4, 8, 8), np.float32)})[0] != 0).mean())


def copy():
    return onnx.ModelProto.FromString(written.SerializeToString())


seen = {"as written": differing(written)}
with contextlib.redirect_stdout(io.StringIO()):
    simplified, checked = onnxsim.simplify(copy(), check_n=3)
    seen["onnxsim"] = differing(simplified)
    seen["onnxslim"] = differing(onnxslim.slim(copy()))
    seen["onnxoptimizer"] = differing(onnxoptimizer.optimize(copy()))
print(", ".join(f"{name} {version(name)}" for name in ("onnxsim", "onnxslim", "onnxoptimizer")))
print(f"share of values in which two draws differ: {seen}; onnxsim's own check passed: {checked}")
raise SystemExit(0 if list(seen.values()) == [1, 0, 0, 0] else "this has changed")
PY
