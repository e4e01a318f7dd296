#!/usr/bin/env bash
# MNN 3.6.1, opencv-python-headless 5.0.0.93 (cv2.dnn), tract 0.23.9: GridSample, as `F.grid_sample` is exported for stabilising, bird's-eye
# views and warped features, is right in all three for the defaults, bilinear and zeros, with which one tries. Of the other words
# MNN passes over "reflection" and computes cubic as linear, cv2.dnn does a cubic of its own and tract and onnx's ReferenceEvaluator
# take a cubic's neighbours beyond a "border" from elsewhere. All run, nothing is said. onnxruntime and OpenVINO agree on all.
#
#   largest difference to onnxruntime, opset 20: linear zeros: 0.0 in all; linear reflection: MNN 1.6;
#   cubic zeros: MNN 0.6, cv2.dnn 0.6; cubic border: MNN 0.6, cv2.dnn 0.6, tract 0.3, onnx.reference 0.3; all others 0.0
#
# Answered by dance_ondevice/runtime/comparing.py, which takes an engine only where its masks agree with those of torch.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxruntime==1.32.0' 'openvino==2026.4.1' 'tract==0.23.9' 'MNN==3.6.1' \
  'opencv-python-headless==5.0.0.93' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - "$folder/n.onnx" "$folder/n.mnn" "$folder/venv/bin/mnnconvert" <<'PY'
import subprocess
import sys
from importlib.metadata import version

import cv2
import MNN.expr as expr
import MNN.nn
import numpy as np
import onnx
import onnxruntime
import openvino
import tract
from onnx import TensorProto, helper, shape_inference
from onnx.reference import ReferenceEvaluator

path, converted, converter = sys.argv[1:]
values = np.random.default_rng(0)
image = values.standard_normal((1, 4, 9, 11)).astype(np.float32)
grid = (values.random((1, 5, 6, 2)) * 2.6 - 1.3).astype(np.float32)


def by_mnn():
    """What MNN gives for the file."""
    command = [converter, "-f", "ONNX", "--modelFile", path, "--MNNModel", converted, "--bizCode", "b"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    inputs = []
    for value in (image, grid):
        inputs.append(expr.placeholder(list(value.shape), expr.NCHW, expr.float))
        inputs[-1].write(value)
    found = MNN.nn.load_module_from_file(converted, ["x", "g"], ["y"]).forward(inputs)
    found = found[0] if isinstance(found, (list, tuple)) else found
    return np.array(expr.convert(found, expr.NCHW).read()).reshape(1, 4, 5, 6)


def off(mode, padding):
    """Largest difference of each engine to onnxruntime."""
    node = helper.make_node("GridSample", ["x", "g"], ["y"], mode=mode, padding_mode=padding, align_corners=0)
    given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in (("x", image), ("g", grid))]
    found = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 5, 6])
    graph = helper.make_graph([node], "one", given, [found])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(shape_inference.infer_shapes(model), path)
    right = onnxruntime.InferenceSession(path).run(None, {"x": image, "g": grid})[0]
    net = cv2.dnn.readNetFromONNX(path)
    net.setInput(image, "x")
    net.setInput(grid, "g")
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    others = {
        "openvino": compiled({"x": image, "g": grid})[0],
        "MNN": by_mnn(),
        "opencv-python-headless": net.forward(),
        "tract": tract.onnx().load(path).into_model().into_runnable().run([image, grid])[0].to_numpy(),
        "onnx": ReferenceEvaluator(path).run(None, {"x": image, "g": grid})[0],
    }
    return {name: round(float(np.abs(value - right).max()), 1) for name, value in others.items()}


good = True
for mode, padding, wrong in (
    ("linear", "zeros", set()),
    ("linear", "reflection", {"MNN"}),
    ("cubic", "zeros", {"MNN", "opencv-python-headless"}),
    ("cubic", "border", {"MNN", "opencv-python-headless", "tract", "onnx"}),
):
    seen = off(mode, padding)
    if not wrong:
        print("onnxruntime " + version("onnxruntime") + "".join(f", {name} {version(name)}" for name in seen))
    print(f"{mode} {padding}: largest difference to onnxruntime {seen}")
    good &= {name for name, value in seen.items() if value > 0} == wrong
raise SystemExit(0 if good else "this has changed")
PY
