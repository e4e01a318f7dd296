#!/usr/bin/env bash
# onnxruntime 1.32.0: `quantize_static(per_channel=True)` gives each output channel of a Conv its own scale, also of a depthwise one. For a
# ConvTranspose it goes by the weight's second axis, which holds the channels of one group: of a depthwise one, as learnt upsampling
# is written, that axis is 1 long, and all channels share one scale, as if per_channel had not been asked for. Filters that are
# weak beside the strongest, as batch normalisation folded into them leaves them, become all zeros, and nothing is said.
#
#   8 filters, each 5 times weaker than the one before, scales and filters that are all zeros: Conv 8 and 0, ConvTranspose of one group 8
#   and 0, depthwise Conv 8 and 0, depthwise ConvTranspose 1 and 4
#
# Answered by dance_ondevice/runtime/comparing.py: none of the engines that are offered is quantised. Needs python3 and a network. Ends with
# status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxruntime==1.32.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - "$folder" <<'PY'
import logging
import sys
from importlib.metadata import version

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, quantize_static

logging.disable(logging.WARNING)
whole, small = f"{sys.argv[1]}/whole.onnx", f"{sys.argv[1]}/small.onnx"
values = np.random.default_rng(0)
falling = 5.0 ** -np.arange(8)


class Images(CalibrationDataReader):
    def __init__(self):
        self.left = [{"x": values.normal(size=(1, 8, 8, 8)).astype(np.float32)} for _ in range(4)]

    def get_next(self):
        return self.left.pop() if self.left else None


def scales_and_zeros(operator, groups):
    """Number of scales of the quantised weight, and of output channels whose filters are all zeros."""
    weight = values.choice([-1.0, 1.0], (8, 8 // groups, 2, 2))
    by_second = operator == "ConvTranspose" and groups == 1
    weight *= falling[None, :, None, None] if by_second else falling[:, None, None, None]
    node = helper.make_node(operator, ["x", "w"], ["y"], group=groups, strides=[2, 2])
    side = 16 if operator == "ConvTranspose" else 4
    graph = helper.make_graph(
        [node],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, side, side])],
        [numpy_helper.from_array(weight.astype(np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), whole)
    quantize_static(whole, small, Images(), per_channel=True)
    kept = {each.name: numpy_helper.to_array(each) for each in onnx.load(small).graph.initializer}
    quantised, scale = kept["w_quantized"], kept["w_scale"]
    axes = (0, 2, 3) if by_second else (1, 2, 3)
    return scale.size, int((np.abs(quantised).max(axes) == 0).sum())


seen = {}
for operator in ("Conv", "ConvTranspose"):
    for groups in (1, 8):
        seen[operator, groups] = scales, zeros = scales_and_zeros(operator, groups)
        print(f"onnxruntime {version('onnxruntime')}: {operator}, {groups} group(s): {scales} scale(s), {zeros} of 8 filters all zeros")
good = seen.pop(("ConvTranspose", 8))
raise SystemExit(0 if good[0] == 1 and good[1] >= 3 and set(seen.values()) == {(8, 0)} else "this has changed")
PY
