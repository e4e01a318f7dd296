#!/usr/bin/env bash
# onnxruntime 1.32.0, OpenVINO 2026.4.1, tract 0.23.9: a Resize of the camera's bytes, put into the network so that all engines prepare
# images alike, is not alike. onnxruntime and tract cut the fractions off: each linear enlargement makes the image half a level darker,
# where OpenVINO and onnx's ReferenceEvaluator round; onnxruntime rounds too once `antialias` is 1. OpenVINO passes over `antialias`,
# of bytes and of floats: a reduction to a third takes one pixel of nine and aliases, without a word.
#
#   bytes, mean error against floats in onnxruntime: enlarged, onnxruntime -0.47, OpenVINO 0.00, tract -0.47, onnx.reference 0.00;
#   reduced with antialias, onnxruntime 0.00, tract -0.50, OpenVINO off by up to 139 levels
#
# Answered by dance_ondevice/images, where images are resized before any engine, and by dance_ondevice/runtime/comparing.py, which takes an
# engine only where its masks agree with those of torch. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxruntime==1.32.0' 'openvino==2026.4.1' 'tract==0.23.9' 'numpy==2.2.6'
"$folder/venv/bin/python" - "$folder/n.onnx" <<'PY'
import sys
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import openvino
import tract
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

path, kinds = sys.argv[1], {np.dtype("uint8"): TensorProto.UINT8, np.dtype("float32"): TensorProto.FLOAT}


def resized(image, side, antialias):
    kind, shape = kinds[image.dtype], [1, 1, side, side]
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear", antialias=antialias)],
        "network",
        [helper.make_tensor_value_info("x", kind, image.shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
        [numpy_helper.from_array(np.array(shape), "sizes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    core = openvino.Core()
    return {
        "onnxruntime": onnxruntime.InferenceSession(path).run(None, {"x": image})[0],
        "OpenVINO": core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([image])[0],
        "tract": tract.onnx().load(path).into_model().into_runnable().run([image])[0].to_numpy(),
        "onnx.reference": ReferenceEvaluator(path).run(None, {"x": image})[0],
    }


print(", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "openvino", "tract", "onnx")))
image = np.random.default_rng(0).integers(0, 256, (1, 1, 48, 48)).astype(np.uint8)
mean, most = {}, {}
for side, antialias in ((96, 0), (16, 1)):
    right = resized(image.astype(np.float32), side, antialias)["onnxruntime"]
    for kind in (np.uint8, np.float32):
        for name, answer in resized(image.astype(kind), side, antialias).items():
            error = answer.astype(np.float64) - right
            key = (side, np.dtype(kind).name, name)
            mean[key], most[key] = float(error.mean()), float(np.abs(error).max())
            print(f"48 to {side}, antialias {antialias}, {key[1]}, {name}: mean error {mean[key]:.2f}, largest {most[key]:.2f}")
good = (
    all(mean[96, "uint8", name] < -0.4 for name in ("onnxruntime", "tract"))
    and all(abs(mean[96, "uint8", name]) < 0.1 for name in ("OpenVINO", "onnx.reference"))
    and abs(mean[16, "uint8", "onnxruntime"]) < 0.1
    and all(most[16, kind, "OpenVINO"] > 20 for kind in ("uint8", "float32"))
    and most[16, "float32", "tract"] < 0.01
)
raise SystemExit(0 if good else "this has changed")
PY
