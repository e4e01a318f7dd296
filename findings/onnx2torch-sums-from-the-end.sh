#!/usr/bin/env bash
# onnx2torch 1.5.15, by which an ONNX file becomes a torch network to fine-tune: a CumSum without attributes, as PyTorch writes `cumsum`, goes
# forwards by ONNX and is summed from the end here: the converter takes 1 for the default of `reverse`. With `reverse=0` said aloud it is
# right, with `exclusive=1` alone it is wrong too. Where the package is in doubt, as about the ways to resize, it warns, and what it does not
# know it refuses; this it converts without a word, and the network that is trained on is not the one that was downloaded.
#
#   1 2 3 4: onnxruntime 1 3 6 10, onnx2torch 10 9 7 4; with reverse=0 both 1 3 6 10; exclusive=1 onnxruntime 0 1 3 6, onnx2torch 9 7 4 0
#
# Answered by daemon/trainer/teacher_models.py (`_from_onnx`): a teacher's file runs in onnxruntime, and is turned into nothing else.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.14.1' 'torchvision==0.29.1' \
  'onnx2torch==1.5.15' 'onnx==1.23.2' 'onnxruntime==1.32.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx2torch import convert


def totals(**attributes):
    """What onnxruntime and onnx2torch make of 1 2 3 4."""
    x = np.array([1, 2, 3, 4], np.float32)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name in "xy"]
    axis = numpy_helper.from_array(np.array(0, np.int64), "axis")
    node = helper.make_node("CumSum", ["x", "axis"], ["y"], **attributes)
    graph = helper.make_graph([node], "one", values[:1], values[1:], [axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    one = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    other = convert(model)(torch.tensor(x)).numpy()
    return one.astype(int).tolist(), other.astype(int).tolist()


with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    seen = {"CumSum": totals(), "with reverse=0": totals(reverse=0), "with exclusive=1": totals(exclusive=1)}
told = [warning for warning in said if "onnx2torch" in warning.filename]
print(f"onnx2torch {version('onnx2torch')}: onnxruntime, onnx2torch: {seen}; warnings {len(told)}")
expected = [([1, 3, 6, 10], [10, 9, 7, 4]), ([1, 3, 6, 10],) * 2, ([0, 1, 3, 6], [9, 7, 4, 0])]
raise SystemExit(0 if list(seen.values()) == expected and not told else "this has changed")
PY
