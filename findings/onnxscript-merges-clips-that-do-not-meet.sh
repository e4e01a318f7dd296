#!/usr/bin/env bash
# onnxscript 0.7.2, whose optimiser torch.onnx.export(dynamo=True) runs (tried with torch 2.14.1): two limits behind each other, Clip and Clip or Clip and Relu, become
# one with the larger of the lower bounds and the smaller of the upper ones. That is the same where the ranges meet. Where they do not, the
# second one decides, and the merged one has its lower bound above its upper one, which is the upper one by definition: values
# below 0 come out of a ReLU, and a floor that was put behind a ceiling (`clamp(max=0)`, then `clamp(min=0.5)` before a logarithm) is
# gone. onnxslim 0.1.98 and onnxruntime 1.32.0, which merge or keep the same pairs, are right. No error and no warning.
#
#   clip to -1 ... -0.5, then Relu: 0 everywhere, optimised -0.5; clip to -1 ... 0, then 0.5 ... 1: 0.5, optimised 0
#
# Answered by the comparison before an export is written (dance_ondevice/runtime/comparing.py), and by runtime/formats.py (`dynamo=False`),
# which does not pass through it. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxscript==0.7.2' 'onnxslim==0.1.98' 'onnxruntime==1.32.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
import copy
from importlib.metadata import version

import numpy as np
import onnxruntime
import onnxscript.optimizer
import onnxslim
from onnx import TensorProto, helper, numpy_helper

value = np.linspace(-3, 3, 7, dtype=np.float32)
names = ("as written", "onnxruntime", "onnxslim", "onnxscript")


def answers(first, second):
    """Returns the smallest and the largest output of two limits behind each other, as they are written and optimised."""
    constants = [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in zip("abcd", (*first, *(second or ())))]
    last = helper.make_node("Clip", ["m", "c", "d"], ["y"]) if second else helper.make_node("Relu", ["m"], ["y"])
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [7]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Clip", ["x", "a", "b"], ["m"]), last], "g", sides[:1], sides[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    made = (model, model, onnxslim.slim(copy.deepcopy(model)), onnxscript.optimizer.optimize(copy.deepcopy(model)))
    found = {}
    for name, one in zip(names, made):
        options = onnxruntime.SessionOptions()
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if name == "onnxruntime" else level.ORT_DISABLE_ALL
        output = onnxruntime.InferenceSession(one.SerializeToString(), options).run(None, {"x": value})[0]
        found[name] = float(output.min()), float(output.max())
    return found


seen = {"-1 ... -0.5, Relu": answers((-1, -0.5), None), "-1 ... 0, 0.5 ... 1": answers((-1, 0), (0.5, 1)), "-1 ... 1, 0 ... 2": answers((-1, 1), (0, 2))}
for name, found in seen.items():
    print(f"onnxscript {version('onnxscript')}: clip to {name}: smallest and largest output {found}")
wrong = {name: {key for key in names if found[key] != found["as written"]} for name, found in seen.items()}
good = list(wrong.values()) == [{"onnxscript"}, {"onnxscript"}, set()] and seen["-1 ... -0.5, Relu"]["onnxscript"] == (-0.5, -0.5)
raise SystemExit(0 if good else "this has changed")
PY
