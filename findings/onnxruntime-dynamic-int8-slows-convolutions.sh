#!/usr/bin/env bash
# onnxruntime 1.32.0: `quantize_dynamic`, with the defaults and in one line, makes a network of convolutions several times slower than it
# was in float32, on a processor with int8 instructions. Each Conv becomes DynamicQuantizeLinear, ConvInteger, Cast and Mul;
# ConvInteger with signed weights, which is the default type, takes a slow path, and with unsigned ones there is no gain either.
# `quantize_static` of the same network, which wants a few images, is several times faster than float32.
#
#   CPU ms an image: float32 3.4, dynamic 22.1, dynamic with unsigned weights 4.9, static 0.9
#
# Answered by dance_ondevice/runtime/comparing.py: an engine serves only where it was measured to take less on this board. None
# of those that are offered is quantised.
# Needs Python 3.11 and a network (1.23.2, the last for 3.10, cannot open the default: "Could not find an implementation for
# ConvInteger"). Ends with status 1 if the default is no slower than 1.5 times float32, or static no faster.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnxruntime==1.32.0' 'onnx==1.23.2' 'numpy==2.4.6'
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import logging
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

logging.disable(logging.WARNING)
SHAPE = [1, 32, 48, 48]
values, nodes, weights, last = np.random.default_rng(0), [], [], "x"
for index in range(8):
    weight = (values.standard_normal((32, 32, 3, 3)) / 12).astype(np.float32)
    weights.append(numpy_helper.from_array(weight, f"w{index}"))
    nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"c{index}"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Relu", [f"c{index}"], [f"y{index}"]))
    last = f"y{index}"
ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE)] for name in ("x", last)]
graph = helper.make_graph(nodes, "graph", *ends, weights)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "float.onnx")


def images(seed):
    return {"x": np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)}


class Images(CalibrationDataReader):
    def __init__(self):
        self.left = iter([images(seed) for seed in range(4)])

    def get_next(self):
        return next(self.left, None)


def milliseconds(path):
    """The least CPU time of an image on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    image, took = images(9), []
    for _ in range(15):
        start = time.process_time()
        session.run(None, image)
        took.append(time.process_time() - start)
    return min(took) * 1000


quantize_dynamic("float.onnx", "dynamic.onnx")
quantize_dynamic("float.onnx", "unsigned.onnx", weight_type=QuantType.QUInt8)
quantize_static("float.onnx", "static.onnx", Images(), per_channel=True)
took = {name: milliseconds(f"{name}.onnx") for name in ("float", "dynamic", "unsigned", "static")}
print(f"onnxruntime {onnxruntime.__version__}: CPU ms an image: float32 {took['float']:.1f}, dynamic {took['dynamic']:.1f}, "
      f"dynamic with unsigned weights {took['unsigned']:.1f}, static {took['static']:.1f}")
good = took["dynamic"] > 1.5 * took["float"] > took["static"]
raise SystemExit(0 if good else "this has changed, or this processor is of another kind")
PY
