#!/usr/bin/env bash
# tract 0.23.9 (Python wheel of the Rust engine): Celu is alpha * (exp(x / alpha) - 1) below zero, and tract leaves the factor out. With
# alpha 1, the default, it is right; at 0.5 every negative activation is twice as large, with no error. Elu of the
# same model heeds its own.
#
#   of -2 at alpha 0.5: onnxruntime Celu -0.49, Elu -0.43; tract Celu -0.98, Elu -0.43; at alpha 1 all -0.86
#
# Answered by dance_ondevice/runtime/comparing.py, which takes an engine only where its masks agree with those of torch; tract is not one of
# those offered. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxruntime==1.32.0' 'tract==0.23.9' 'numpy==2.2.6'
"$folder/venv/bin/python" - "$folder/n.onnx" <<'PY'
import sys
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import tract
from onnx import TensorProto, helper

path, value, seen = sys.argv[1], np.full((1, 1), -2, np.float32), {}
sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in "xy"]
for operator in ("Celu", "Elu"):
    for alpha in (0.5, 1.0):
        graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], alpha=alpha)], "n", sides[:1], sides[1:])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
        right = float(onnxruntime.InferenceSession(path).run(None, {"x": value})[0][0, 0])
        found = float(tract.onnx().load(path).into_model().into_runnable().run([value])[0].to_numpy()[0, 0])
        seen[operator, alpha] = found / right
        print(f"tract {version('tract')}: {operator} of -2 at alpha {alpha}: onnxruntime {right:.2f}, tract {found:.2f}")
good = all(abs(ratio - (2 if key == ("Celu", 0.5) else 1)) < 0.01 for key, ratio in seen.items())
raise SystemExit(0 if good else "this has changed")
PY
