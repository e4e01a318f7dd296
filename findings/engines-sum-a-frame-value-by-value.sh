#!/usr/bin/env bash
# onnxruntime 1.32.0, OpenVINO 2026.4.1, opencv-python-headless 5.0.0.93 (cv2.dnn): a sum over a whole frame, as image-level pooling, a brightness or a
# density in the network asks for it, is made of partial sums, one thinks, as numpy's and torch's are; one float32 that takes a full HD frame
# value by value rounds each of the last million values to a 64th. Some operators do it so: GlobalAveragePool in cv2.dnn, AveragePool
# over the frame in OpenVINO, ReduceL1, ReduceL2 and ReduceSumSquare in onnxruntime, while the ReduceMean of each is several times nearer.
# Frames of noise average the rounding out; dark ones and flat ones do not, and a comparison of two engines finds one percent between them.
#
#   1920 x 1080, a flat frame of 0.1: those five 0.9 to 1.9 % too low; a dark one of levels 0 to 29: the sums 1.2 % too high; numpy 0.0002 %
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnx==1.23.2' 'onnxruntime==1.32.0' 'openvino==2026.4.1' 'opencv-python-headless==5.0.0.93' 'numpy==2.2.6'
cd "$folder"
HOME=$folder "$folder/venv/bin/python" -W ignore - <<'PY'
import cv2
import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper

SHAPE = [1, 1, 1080, 1920]
PIXELS = 1080 * 1920


def file(operator, **attributes):
    """A network of one operator over the frame."""
    ends = helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE), helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 1])
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], **attributes)], "one", [ends[0]], [ends[1]])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def by_onnxruntime(network, frame):
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": frame})[0].item()


def by_openvino(network, frame):
    core = openvino.Core()
    return core.compile_model(core.read_model(network), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(frame)[0].item()


def by_opencv(network, frame):
    net = cv2.dnn.readNetFromONNX(np.frombuffer(network, np.uint8))
    net.setInput(frame)
    return net.forward().item()


all_axes = {"axes": [2, 3], "keepdims": 1}
SUM, SQUARES = (lambda x: x.sum()), (lambda x: (x**2).sum())
CASES = {  # engine and operator: how it is run, its network, what is right, by how many percent of a flat frame it is off at least
    "cv2.dnn GlobalAveragePool": (by_opencv, file("GlobalAveragePool"), lambda x: SUM(x) / PIXELS, 1.5),
    "OpenVINO AveragePool": (by_openvino, file("AveragePool", kernel_shape=SHAPE[2:]), lambda x: SUM(x) / PIXELS, 1.5),
    "onnxruntime ReduceL1": (by_onnxruntime, file("ReduceL1", **all_axes), SUM, 1.5),
    "onnxruntime ReduceL2": (by_onnxruntime, file("ReduceL2", **all_axes), lambda x: SQUARES(x) ** 0.5, 0.8),
    "onnxruntime ReduceSumSquare": (by_onnxruntime, file("ReduceSumSquare", **all_axes), SQUARES, 1.5),
    "cv2.dnn ReduceMean": (by_opencv, file("ReduceMean", **all_axes), lambda x: SUM(x) / PIXELS, 0.0),
    "OpenVINO ReduceMean": (by_openvino, file("ReduceMean", **all_axes), lambda x: SUM(x) / PIXELS, 0.0),
    "onnxruntime ReduceMean": (by_onnxruntime, file("ReduceMean", **all_axes), lambda x: SUM(x) / PIXELS, 0.0),
}
flat = np.full(SHAPE, 0.1, np.float32)
dark = (np.random.default_rng(0).integers(0, 30, SHAPE) / 255).astype(np.float32)
good = True
for name, (run, network, right, least) in CASES.items():
    off = [100 * (run(network, frame) / float(right(frame.astype(np.float64))) - 1) for frame in (flat, dark)]
    print(f"{name}: off by {off[0]:+.2f} % on the flat frame, {off[1]:+.2f} % on the dark one")
    good &= off[0] < -least if least else abs(off[0]) < 0.5
    good &= off[1] > 0.8 if least and right is not SQUARES and "L2" not in name else abs(off[1]) < 0.5
numpy_off = max(abs(float(frame.mean()) / float(frame.astype(np.float64).mean()) - 1) for frame in (flat, dark))
print(f"onnxruntime {onnxruntime.__version__}, OpenVINO {openvino.__version__.split('-')[0]}, OpenCV {cv2.__version__}; numpy's float32: {100 * numpy_off:.4f} %")
raise SystemExit(0 if good and numpy_off < 1e-4 else "this has changed")
PY
