#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: a Resize with `scales`, which torch writes for `F.interpolate(scale_factor=0.6)`, is done by cv2.dnn with
# the ratio of the sizes that come out, 2/4 for 0.6 of 4 pixels. torch, onnxruntime and ONNX take 0.6 itself, so masks shift by more the
# farther a pixel lies from the corner, unless the scale is met exactly. A Cast to integers behind a multiplication by a number,
# as torch writes `(x * 1.5).int()`, keeps the fractions in cv2.dnn; with the same number as an initializer it cuts them off.
#
#   Resize of 0 to 15 (4x4) by 0.6, first and last: onnxruntime 1.7 10.0, onnx.reference 1.7 10.0, cv2.dnn 2.5 12.5
#   int(0.7 * 1.5): onnxruntime 1.0, cv2.dnn 1.05; number as an initializer: 1.0 and 1.0
#
# Answered by docs/models.md, which says what exported files are to be run with. Needs python3 and a network. Ends with status 1 if it
# behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxruntime==1.32.0' 'opencv-python-headless==5.0.0.93' 'numpy==2.2.6'
"$folder/venv/bin/python" - "$folder/n.onnx" <<'PY'
import sys
from importlib.metadata import version

import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

path = sys.argv[1]


def answers(nodes, image, size, initializers=()):
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, *size])],
        initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    net = cv2.dnn.readNetFromONNX(path)
    net.setInput(image)
    return {
        "onnxruntime": onnxruntime.InferenceSession(path).run(None, {"x": image})[0],
        "onnx.reference": ReferenceEvaluator(path).run(None, {"x": image})[0],
        "cv2.dnn": net.forward(),
    }


print(f"opencv-python-headless {version('opencv-python-headless')}, onnxruntime {version('onnxruntime')}")
ramp = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
scales = numpy_helper.from_array(np.float32([1, 1, 0.6, 0.6]), "scales")
resize = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear", coordinate_transformation_mode="half_pixel")
resized = answers([resize], ramp, (2, 2), [scales])
for name, answer in resized.items():
    print(f"Resize by 0.6, {name}: first {answer.flat[0]:.1f}, last {answer.flat[-1]:.1f}")
good = np.allclose(resized["onnxruntime"], resized["onnx.reference"], atol=1e-3)
good &= abs(float(resized["cv2.dnn"].flat[-1]) - 12.5) < 0.01

number = numpy_helper.from_array(np.float32(1.5), "n")
sevens = np.full((1, 1, 2, 4), 0.7, np.float32)
rest = [
    helper.make_node("Mul", ["x", "n"], ["a"]),
    helper.make_node("Cast", ["a"], ["b"], to=TensorProto.INT32),
    helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
]
for kind in ("constant node", "initializer"):
    constant = [helper.make_node("Constant", [], ["n"], value=number)] if kind == "constant node" else []
    cast = answers(constant + rest, sevens, (2, 4), [] if constant else [number])
    print(f"int(0.7 * 1.5), {kind}: " + ", ".join(f"{name} {answer.flat[0]:.2f}" for name, answer in cast.items()))
    good &= float(cast["onnxruntime"].flat[0]) == 1 and (float(cast["cv2.dnn"].flat[0]) == 1) == (kind == "initializer")
raise SystemExit(0 if good else "this has changed")
PY
