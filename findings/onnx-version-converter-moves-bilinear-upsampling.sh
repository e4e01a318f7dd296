#!/usr/bin/env bash
# onnx 1.23.2: `version_converter.convert_version` keeps names and attributes of operators whose meaning changed between the opsets.
# A bilinear Resize of opset 10, or Upsample of 9, finds pixel x at x / scale; from opset 11 on the same words align the pixels'
# middles, and the converter adds nothing that says which. Masks of an upgraded network lie 0.5 pixels aside at a factor of 2 and
# 3.5 at 8. A Softmax of opset 13, taken back to 12, becomes one over all that follows its axis: over classes and pixels at once.
# Both files pass `onnx.checker` and run, with no word. From 11 up to 13 the converter does see to Softmax.
#
#   largest difference in onnxruntime: Resize 10 to 11 1.3, Upsample 9 to 13 1.3, Softmax 13 to 12 0.9, Softmax 11 to 13 0.0
#
# Answered by daemon/trainer/teacher_models.py (`_from_onnx`): a teacher from anywhere runs at the opset that it came in.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxruntime==1.32.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, version_converter

onnxruntime.set_default_logger_severity(3)
x = np.random.default_rng(0).standard_normal((1, 2, 5, 7)).astype(np.float32)
scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")


def changed_by(node, constants, before, after):
    """Largest difference that the conversion makes to what the operator gives."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)
    found = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])
    graph = helper.make_graph([node], "one", [given], [found], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", before)], ir_version=8)
    converted = version_converter.convert_version(model, after)
    outputs = []
    for each in (model, converted):
        onnx.checker.check_model(each)
        session = onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"])
        outputs.append(session.run(None, {"x": x})[0])
    return float(np.abs(outputs[0] - outputs[1]).max())


resize, upsample = (helper.make_node(kind, ["x", "scales"], ["y"], mode="linear") for kind in ("Resize", "Upsample"))
softmax = helper.make_node("Softmax", ["x"], ["y"], axis=1)
seen = {
    "Resize 10 to 11": changed_by(resize, [scales], 10, 11),
    "Upsample 9 to 13": changed_by(upsample, [scales], 9, 13),
    "Softmax 13 to 12": changed_by(softmax, [], 13, 12),
    "Softmax 11 to 13": changed_by(softmax, [], 11, 13),
}
print(f"onnx {onnx.__version__}: largest difference in onnxruntime: " + ", ".join(f"{k} {v:.1f}" for k, v in seen.items()))
differences = list(seen.values())
raise SystemExit(0 if min(differences[:3]) > 0.1 and differences[3] < 1e-5 else "this has changed")
PY
