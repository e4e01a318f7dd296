#!/usr/bin/env bash
# onnxruntime 1.32.0: `quantize_static` takes a Clip behind a convolution out of the graph, as it does with Relu, since the range of the int8
# numbers cuts there already. That holds where the range begins at the Clip's bound. It always holds 0, so that a floor above 0 (`clamp(min=
# 0.1)` in front of a division or a logarithm) and a ceiling below 0 are gone: values go down to 0, and 1 / x, which was 10 at most, is
# infinite. A Clip that has both bounds around 0, as ReLU6, is right, as is one that stands by itself, so that a test with those passes. In
# both formats, QDQ and QOperator, with no word.
#
#   smallest value behind Clip(0.5, 2): float 0.5, QDQ 0.0, QOperator 0.0; largest 1 / Clip(0.1): float 10, QDQ inf, QOperator inf
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
image = np.linspace(-1, 3, 144, dtype=np.float32).reshape(1, 1, 12, 12)
parts = {"w": np.ones((1, 1, 1, 1), np.float32), "one": np.ones(1, np.float32)}


class Images(CalibrationDataReader):
    def __init__(self):
        self.images = iter([{"x": image}])

    def get_next(self):
        return next(self.images, None)


def answers(low, high, last):
    """The output as float and in both formats; behind the Clip stands `last`."""
    numbers = parts | {"low": np.float32(low), "high": np.float32(high)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Clip", ["a", "low", "high"], ["b"]), last]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, image.shape)
    found = helper.make_tensor_value_info("y", TensorProto.FLOAT, image.shape)
    kept = [numpy_helper.from_array(value, name) for name, value in numbers.items() if any(name in each.input for each in nodes)]
    graph = helper.make_graph(nodes, "clip", [given], [found], kept)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "float.onnx")
    outputs = []
    for name, form in (("float", None), ("QDQ", QuantFormat.QDQ), ("QOperator", QuantFormat.QOperator)):
        if form is not None:
            with contextlib.redirect_stdout(io.StringIO()):
                quantize_static("float.onnx", f"{name}.onnx", Images(), quant_format=form)
        session = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
        outputs.append(session.run(None, {"x": image})[0])
    return outputs


convolution, inverse = helper.make_node("Conv", ["b", "w"], ["y"]), helper.make_node("Div", ["one", "b"], ["y"])
floor = [round(float(each.min()), 2) for each in answers(0.5, 2, convolution)]
around = [round(float(each.min()), 2) for each in answers(-0.5, 2, convolution)]
largest = [round(float(each.max()), 2) for each in answers(0.1, 2, inverse)]
print(f"onnxruntime {version('onnxruntime')}: float, QDQ, QOperator: smallest behind Clip(0.5, 2) {floor}, behind Clip(-0.5, 2) {around}, "
      f"largest 1 / Clip(0.1, 2) {largest}")
good = floor == [0.5, 0, 0] and max(around) < -0.45 and largest == [10, float("inf"), float("inf")]
raise SystemExit(0 if good else "this has changed")
PY
