#!/usr/bin/env bash
# OpenVINO 2026.4.1 reads three of ONNX's reductions, ReduceLogSumExp, ReduceLogSum and ReduceL1, as if every file were of opset 18,
# in which the axes became an input: in a file of opset 13 or 17 their attribute `axes` is passed over, and all axes are
# reduced, without a word. ReduceSumSquare, ReduceL2, ReduceMax, ReduceMean and the rest heed it. torch.logsumexp exports so.
#
#   opset 17, axes=[1] of (1, 3, 4, 4): ReduceLogSumExp (1, 1, 1, 1), ReduceLogSum (1, 1, 1, 1), ReduceL1 (1, 1, 1, 1),
#   ReduceL2 (1, 1, 4, 4), ReduceMax (1, 1, 4, 4)
#
# Answered by dance_ondevice/models/mapping/mapped.py, which adds exponentials up one by one. Needs python3 and a network; ends
# with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'openvino==2026.4.1' 'onnx==1.23.2' 'onnxruntime==1.32.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper

x = np.ones((1, 3, 4, 4), np.float32)
core = openvino.Core()


def shapes(kind: str, opset: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape of what OpenVINO and onnxruntime compute where one axis is to be reduced."""
    if opset < 18:
        node, constants = helper.make_node(kind, ["x"], ["y"], axes=[1], keepdims=1), []
    else:
        node = helper.make_node(kind, ["x", "axes"], ["y"], keepdims=1)
        constants = [helper.make_tensor("axes", TensorProto.INT64, [1], [1])]
    graph = helper.make_graph(
        [node],
        "reduction",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()
    (expected,) = onnxruntime.InferenceSession(file).run(None, {"x": x})
    return tuple(core.compile_model(core.read_model(file), "CPU")(x)[0].shape), expected.shape


kept, everything = (1, 1, 4, 4), (1, 1, 1, 1)
kinds = ("ReduceLogSumExp", "ReduceLogSum", "ReduceL1", "ReduceL2", "ReduceMax")
found = {opset: {kind: shapes(kind, opset) for kind in kinds} for opset in (13, 17, 18)}
print(f"OpenVINO {openvino.__version__.split('-')[0]}, onnxruntime {onnxruntime.__version__}, one axis of (1, 3, 4, 4) reduced")
for opset, by_kind in found.items():
    print(f"  opset {opset}: " + ", ".join(f"{kind} {ours}" for kind, (ours, _) in by_kind.items()))
expected = {kind: everything if kind in kinds[:3] else kept for kind in kinds}
changed = any(
    {kind: ours for kind, (ours, _) in found[opset].items()} != expected for opset in (13, 17)
) or any(ours != kept for ours, _ in found[18].values())
wrong = any(theirs != kept for by_kind in found.values() for _, theirs in by_kind.values())
raise SystemExit("this has changed" if changed or wrong else 0)
PY
