#!/usr/bin/env bash
# tract 0.23.9, opencv-python-headless 5.0.0.93 (cv2.dnn) and onnx 1.23.2's own ReferenceEvaluator compute LogSoftmax as the logarithm
# of the softmax. Where one class is ahead by more than 104, its rivals' probability is 0 in float32 and their logarithm minus
# infinity; torch and onnxruntime, which never take that detour, say -120. An operator of its own exists to avoid just that, and
# what is computed from it fails next: p * log p, the entropy by which images are chosen for labelling, is NaN for
# the images the network is sure of, and NaN sorts last or first, as the language has it.
#
#   logits 0, 50, 120: onnxruntime -120, -70, 0; tract -inf, -70, 0; cv2.dnn -inf, -70, 0; onnx.reference -inf, -70, 0;
#   entropy: onnxruntime 0.0, tract nan, cv2.dnn nan, onnx.reference nan
#
# Answered by dance_ondevice/images/masks.py (`mean_confidence`): the confidence is the largest probability, without a logarithm.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxruntime==1.32.0' 'tract==0.23.9' 'opencv-python-headless==5.0.0.93' \
  'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - "$folder/n.onnx" <<'PY'
import sys
from importlib.metadata import version

import cv2
import numpy as np
import onnx
import onnxruntime
import tract
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

path = sys.argv[1]
scores = np.array([0, 50, 120], np.float32).reshape(1, 3, 1, 1)
sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 1, 1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("LogSoftmax", ["x"], ["y"], axis=1)], "network", sides[:1], sides[1:])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
net = cv2.dnn.readNetFromONNX(path)
net.setInput(scores)
found = {
    "onnxruntime": onnxruntime.InferenceSession(path).run(None, {"x": scores})[0],
    "tract": tract.onnx().load(path).into_model().into_runnable().run([scores])[0].to_numpy(),
    "cv2.dnn": net.forward(),
    "onnx.reference": ReferenceEvaluator(path).run(None, {"x": scores})[0],
}
names = ("onnxruntime", "tract", "opencv-python-headless", "onnx")
print(", ".join(f"{name} {version(name)}" for name in names))
good = True
for name, answer in found.items():
    logs = answer.ravel()
    entropy = float(-(np.exp(logs) * logs).sum())
    print(f"{name}: {', '.join(f'{value:.0f}' for value in logs)}; entropy {entropy:.1f}")
    good &= bool(np.isfinite(logs).all()) == (name == "onnxruntime") == bool(np.isfinite(entropy))
raise SystemExit(0 if good else "this has changed")
PY
