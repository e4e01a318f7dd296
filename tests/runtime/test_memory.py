"""Sessions of onnxruntime keep one working set, and give back that of a rare frame."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

_PASSES = """
import json, resource, threading
from pathlib import Path
import numpy as np
import onnx
from onnx import TensorProto, helper
from dance_ondevice.runtime.engines import ENGINES

SIDES = [1, 3, "height", "width"]
nodes, values = [], []
for layer, (have, get) in enumerate([(3, 32), (32, 32), (32, 3)]):
    weight = np.full((get, have, 1, 1), 0.01, np.float32)
    bytes_ = weight.tobytes()
    values.append(helper.make_tensor(f"w{layer}", TensorProto.FLOAT, weight.shape, bytes_, raw=True))
    ends = ("image" if layer == 0 else f"x{layer}", "scores" if layer == 2 else f"x{layer + 1}")
    nodes.append(helper.make_node("Conv", [ends[0], f"w{layer}"], [ends[1]]))
ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SIDES) for name in ("image", "scores")]
graph = helper.make_graph(nodes, "wide", ports[:1], ports[1:], values)
model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
file = model.SerializeToString()

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def frame(side):
    return np.zeros((1, 3, side, side), np.float32)

def serve():
    usual, rare = (ENGINES["onnxruntime"].session(file, 1, "cpu", size) for size in ((512, 512), None))
    image = frame(512)
    for _ in range(5):
        usual(image)
    before = faults()
    for _ in range(10):
        usual(image)
    each, small = (faults() - before) / 10, resident()
    rare(frame(1536))
    print(json.dumps({"faults": each, "grown": resident() - small}))

thread = threading.Thread(target=serve)
thread.start()
thread.join()
"""


#: A program that has made the pool itself, with an onnxruntime that refuses a second one, as 1.20 does.
_TAKEN = """
import onnxruntime

def refuse(*arguments):
    raise RuntimeError("An allocator for this device has already been registered for sharing.")

kind, where = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", kind, 0, where), None)
onnxruntime.create_and_register_allocator = refuse
"""


@pytest.mark.parametrize("program", ["", _TAKEN], ids=["own", "taken"])
def test_a_pass_asks_the_system_for_no_memory_and_a_large_rare_frame_leaves_none(program: str) -> None:
    command = [sys.executable, "-c", program + _PASSES]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    # A layer of this network has 32 MB, 8192 pages, and one of the large frame 300 MB.
    assert found["faults"] < 4000
    assert found["grown"] < 100_000_000
