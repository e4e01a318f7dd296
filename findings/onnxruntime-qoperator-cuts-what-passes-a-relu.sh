#!/usr/bin/env bash
# onnxruntime 1.32.0: `quantize_static(quant_format=QuantFormat.QOperator)` takes a Relu behind a convolution out of the graph and lets the
# range of the convolution's int8 output begin at 0. It does so too where something else reads that output as it was before the Relu: the skip
# connection of a pre-activation block (x + conv(relu(x))) loses everything below 0, although the file's Add reads the convolution, not the
# Relu. No error and the right shape. QDQ, the default format, keeps both, and so does QOperator where the Relu's output is the only one that
# is read.
#
#   error of x + conv(relu(x)) in parts of its deviation: QDQ 0.02, QOperator 0.63; of relu(x) + conv(relu(x)) 0.02 and 0.02
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnxruntime==1.32.0' 'onnx==1.23.2' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import contextlib
import io
import logging
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

logging.disable(logging.WARNING)
random = np.random.default_rng(0)
images = random.standard_normal((8, 1, 4, 12, 12)).astype(np.float32)
weights = {name: (random.standard_normal((4, 4, 3, 3)) * 0.2).astype(np.float32) for name in ("v", "w")}


class Images(CalibrationDataReader):
    def __init__(self):
        self.images = iter([{"x": image} for image in images])

    def get_next(self):
        return next(self.images, None)


def errors(skip):
    """Errors of a block whose skip connection begins at `skip`, in both formats, in parts of the output's deviation."""
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", [skip, "c"], ["y"]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, images[0].shape)
    found = helper.make_tensor_value_info("y", TensorProto.FLOAT, images[0].shape)
    kept = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "block", [given], [found], kept)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "float.onnx")
    outputs = {}
    for name, form in (("float", None), ("QDQ", QuantFormat.QDQ), ("QOperator", QuantFormat.QOperator)):
        if form is not None:
            with contextlib.redirect_stdout(io.StringIO()):
                quantize_static("float.onnx", f"{name}.onnx", Images(), quant_format=form)
        session = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
        outputs[name] = session.run(None, {"x": images[0]})[0]
    true = outputs.pop("float")
    return {name: round(float(np.sqrt(((each - true) ** 2).mean()) / true.std()), 2) for name, each in outputs.items()}


past, behind = errors("a"), errors("r")
print(f"onnxruntime {version('onnxruntime')}: error of x + conv(relu(x)) {past}, of relu(x) + conv(relu(x)) {behind}")
good = past["QDQ"] < 0.1 and past["QOperator"] > 0.5 and max(behind.values()) < 0.1
raise SystemExit(0 if good else "this has changed")
PY
