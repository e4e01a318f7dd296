#!/usr/bin/env bash
# onnx 1.23.2: `onnx.reference.ReferenceEvaluator` is taken for the meaning of a file, and engines for wrong where they differ. In these it
# is the one that differs from onnxruntime, OpenVINO and the text of the standard: LRN, LpNormalization with p=1 (it forgets the
# absolute value, so that a sum near 0 divides), MaxPool with auto_pad SAME_LOWER (as SAME_UPPER), and `sequence_lens` of LSTM and
# GRU, which it passes over. AveragePool with SAME_LOWER and LpNormalization with p=2 are right. No error, no warning.
#
#   largest difference to onnxruntime: reference, OpenVINO: LRN 1.1, 0.0; LpNormalization p=1 48.5, 0.0, p=2 0.0, 0.0; MaxPool
#   SAME_LOWER 2.4, 0.0, AveragePool 0.0, 0.0; LSTM of 4 and 6 steps 0.7, 0.0; GRU 1.0, 0.0
#
# Answered by daemon/commands/models/export.py, which compares an exported file with its model in the engines that serve it.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxruntime==1.32.0' 'openvino==2026.4.1' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

values = np.random.default_rng(0)
image = values.standard_normal((1, 4, 10, 12)).astype(np.float32)
sequence = values.standard_normal((6, 2, 3)).astype(np.float32)
HIDDEN = 5


def off(kind, given, constants=(), **options):
    """Largest difference to onnxruntime of the reference and of OpenVINO."""
    names = [f"c{number}" for number in range(len(constants))]
    node = helper.make_node(kind, ["x", *names], ["y"], **options)
    kept = [numpy_helper.from_array(value, name) for name, value in zip(names, constants)]
    sides = [helper.make_tensor_value_info("x", TensorProto.FLOAT, given.shape)]
    found = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b", "c", "d"])]
    graph = helper.make_graph([node], "one", sides, found, kept)
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    right = onnxruntime.InferenceSession(data).run(None, {"x": given})[0]
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers = ReferenceEvaluator(data).run(None, {"x": given})[0], compiled(given)[0]
    return [round(float(np.abs(answer - right).max()), 1) if answer.shape == right.shape else "shape" for answer in answers]


def recurrent(kind, gates):
    shapes = (1, gates * HIDDEN, 3), (1, gates * HIDDEN, HIDDEN), (1, 2 * gates * HIDDEN)
    weights = [values.standard_normal(shape).astype(np.float32) for shape in shapes]
    return off(kind, sequence, [*weights, np.array([4, 6], np.int32)], hidden_size=HIDDEN)


pool = {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}
wrong = {
    "LRN": off("LRN", image, size=5, alpha=0.5, beta=0.75, bias=2.0),
    "LpNormalization p=1": off("LpNormalization", image, axis=1, p=1),
    "MaxPool SAME_LOWER": off("MaxPool", image, **pool),
    "LSTM of 4 and 6 steps": recurrent("LSTM", 4),
    "GRU of 4 and 6 steps": recurrent("GRU", 3),
}
right = {
    "LpNormalization p=2": off("LpNormalization", image, axis=1, p=2),
    "AveragePool SAME_LOWER": off("AveragePool", image, **pool),
}
print(f"onnx {version('onnx')}, onnxruntime {version('onnxruntime')}, openvino {version('openvino')}: largest difference to onnxruntime of "
      f"the reference and of OpenVINO: {wrong | right}")
good = all(theirs == "shape" or theirs > 0.1 for theirs, _ in wrong.values())
good &= all(openvinos == 0 for _, openvinos in (wrong | right).values()) and all(theirs == 0 for theirs, _ in right.values())
raise SystemExit(0 if good else "this has changed")
PY
