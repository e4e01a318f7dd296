#!/usr/bin/env bash
# apache-tvm 0.27.0: its reader of ONNX raises at operators and modes that it lacks, and of some that it knows it drops a word. A Resize
# takes its pixels by the ratio of the sizes, not by `scales` (torch writes scales for `scale_factor=0.6`): 8/4 for 0.6 of 8 pixels, up to a
# pixel and more aside towards the far corner. `antialias` is passed over, and so is `output_shape` of a ConvTranspose, which comes
# out a row too large. A MaxPool with auto_pad SAME_LOWER on an odd side has no padding at all where its stride is above 1, so that the map
# is a row and a column smaller; AveragePool with the same words is right, and so is an even side.
#
#   0 to 7 by 0.6: onnxruntime 0.3 2.0 3.7 5.3, tvm 0.5 2.5 4.5 6.5; antialias to 2: 1.7 5.3, tvm 1.5 5.5; output_shape 15: 15, tvm 16;
#   SAME_LOWER of 7: MaxPool 4, tvm 3, AveragePool 4, tvm 4
#
# Answered by dance_ondevice/models/layers.py (`resize`), which resizes to sizes, and runtime/comparing.py, which takes an engine only where
# its masks agree; TVM is none of those offered. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'apache-tvm==0.27.0.post1' 'onnx==1.23.2' 'onnxruntime==1.32.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - 2>"$folder/errors" <<'PY' || { status=$?; cat "$folder/errors"; exit $status; }
from importlib.metadata import version

import numpy as np
import onnxruntime
import tvm
from onnx import TensorProto, helper, numpy_helper
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx


def both(node, value, **constants):
    """Returns what onnxruntime and TVM make of one operator."""
    sides = helper.make_tensor_value_info("x", TensorProto.FLOAT, value.shape), helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", sides[:1], sides[1:], [numpy_helper.from_array(v, k) for k, v in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    right = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": value})[0]
    machine = relax.VirtualMachine(tvm.compile(from_onnx(model), target="llvm"), tvm.cpu())
    return right, machine["main"](tvm.runtime.tensor(value)).numpy()


row = np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8)
odd = np.arange(49, dtype=np.float32).reshape(1, 1, 7, 7)
same = {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}
by_scale = both(helper.make_node("Resize", ["x", "", "s"], ["y"], mode="linear"), row, s=np.array([1, 1, 1, 0.6], np.float32))
smooth = both(helper.make_node("Resize", ["x", "", "", "z"], ["y"], mode="linear", antialias=1), row, z=np.array([1, 1, 1, 2]))
larger = both(helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], output_shape=[15, 15]), odd, w=np.ones((1, 1, 4, 4), np.float32))
largest = both(helper.make_node("MaxPool", ["x"], ["y"], **same), odd)
means = both(helper.make_node("AveragePool", ["x"], ["y"], **same), odd)
values = {name: [pair[0].ravel().round(1).tolist(), pair[1].ravel().round(1).tolist()] for name, pair in (("by 0.6", by_scale), ("antialias", smooth))}
pairs = (("output_shape 15", larger), ("MaxPool SAME_LOWER", largest), ("AveragePool SAME_LOWER", means))
sides = {name: [int(pair[0].shape[-1]), int(pair[1].shape[-1])] for name, pair in pairs}
print(f"apache-tvm {version('apache-tvm')}: onnxruntime and tvm: values {values}; sides of the output {sides}")
good = (
    np.allclose(by_scale[1].ravel(), [0.5, 2.5, 4.5, 6.5], atol=0.01)
    and np.allclose(by_scale[0].ravel(), [1 / 3, 2, 11 / 3, 16 / 3], atol=0.01)
    and not np.allclose(*smooth, atol=0.1)
    and list(sides.values()) == [[15, 16], [4, 3], [4, 4]]
)
raise SystemExit(0 if good else "this has changed")
PY
