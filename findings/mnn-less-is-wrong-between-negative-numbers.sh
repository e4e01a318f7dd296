#!/usr/bin/env bash
# MNN 3.6.1, x86-64: `Less` of two negative numbers gives the opposite: -2 < -0.5 is false and -0.1 < -0.5 is true. It compares them as if
# their bits were whole numbers, among which negative floats run backwards. Where one of the two is 0 or above it is right, so that a
# test with positive numbers passes, and `Greater`, `GreaterOrEqual` and `LessOrEqual` are right throughout: `x < c` and `c > x` are
# two answers. torch writes Less for hardshrink, softshrink and every `x < c`; the file converts without a word.
#
#   x -3, -1, -0.6, -0.4, -0.1, 0, 0.1, 2; x < -0.5: onnxruntime 1 1 1 0 0 0 0 0, MNN 0 0 0 1 1 0 0 0; -0.5 > x: MNN 1 1 1 0 0 0 0 0;
#   x < 0.5: MNN 1 1 1 1 1 1 1 0
#
# Answered by dance_ondevice/runtime/comparing.py, which takes an engine only where its masks agree with those of torch; MNN is not one of
# those offered. Needs python3, a network and x86-64. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'MNN==3.6.1' 'onnx==1.23.2' 'onnxruntime==1.32.0' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" - 3>&1 >/dev/null 2>&1 <<'PY'
import os
from importlib.metadata import version

import _tools
import numpy as np
import onnx
import onnxruntime
from MNN import expr, nn
from onnx import TensorProto, helper

X = np.array([-3, -1, -0.6, -0.4, -0.1, 0, 0.1, 2], np.float32).reshape(1, 1, 2, 4)


def answers(operator, first, second, constant):
    """What onnxruntime and MNN make of a comparison of x with a number, as 0 and 1."""
    graph = helper.make_graph(
        [helper.make_node(operator, [first, second], ["truth"]), helper.make_node("Cast", ["truth"], ["y"], to=TensorProto.FLOAT)],
        "comparison",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor("c", TensorProto.FLOAT, [], [constant])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, "model.onnx")
    # The converter itself, without the program around it.
    _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", "model.onnx", "--MNNModel", "model.mnn", "--bizCode", "none"])
    one = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": X})[0]
    given = expr.placeholder(list(X.shape), expr.NCHW, expr.float)
    given.write(X)
    other = np.array(expr.convert(nn.load_module_from_file("model.mnn", ["x"], ["y"]).forward([given])[0], expr.NCHW).read())
    return one.ravel().astype(int).tolist(), other.ravel().astype(int).tolist()


seen = {
    "x < -0.5": answers("Less", "x", "c", -0.5),
    "-0.5 > x": answers("Greater", "c", "x", -0.5),
    "x < 0.5": answers("Less", "x", "c", 0.5),
}
told = f"MNN {version('MNN')}: x {X.ravel().round(1).tolist()}\n"
told += "".join(f"  {name}: onnxruntime {one}, MNN {other}\n" for name, (one, other) in seen.items())
below = [1, 1, 1, 0, 0, 0, 0, 0]
expected = [(below, [0, 0, 0, 1, 1, 0, 0, 0]), (below, below), ([1, 1, 1, 1, 1, 1, 1, 0],) * 2]
good = list(seen.values()) == expected
os.write(3, (told if good else f"{told}this has changed\n").encode())
raise SystemExit(0 if good else 1)
PY
