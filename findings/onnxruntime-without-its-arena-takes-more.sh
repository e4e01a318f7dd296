#!/usr/bin/env bash
# onnxruntime 1.23.2: `enable_cpu_mem_arena = False`, the setting that is passed on for saving memory, takes more of it, and CPU time
# as well, where frames are segmented in a thread. Each pass asks the system for all its tensors anew and returns them: thousands of
# page faults a pass, each of which clears a page, and a peak above that of the arena. What makes the arena large is another setting,
# `enable_mem_pattern`, which plans the memory of a whole pass as one block that later passes of the same size take beside the first.
#
#   a pass on 640x480, a chain of 12 convolutions   CPU ms   page faults   MB at the peak
#   without the arena                                114.3         14402              238
#   with it, as by default                            89.2             0              148
#   with it, no memory planned                        88.8             0              108
#
# Answered by dance_ondevice/runtime/engines.py (one arena for all sessions, no memory planned).
# Needs python3, a network and a C library of GNU. Ends with status 1 if the arena no longer saves page faults and memory.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnxruntime==1.23.2' 'onnx==1.19.1' 'numpy==2.2.6'
cat >"$folder/passes.py" <<'PY'
import resource
import sys
import threading
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

values, nodes, weights, last = np.random.default_rng(0), [], [], "image"
for index in range(12):
    shape = (16, 3 if index == 0 else 16, 3, 3)
    weights.append(numpy_helper.from_array((values.standard_normal(shape) / 12).astype(np.float32), f"w{index}"))
    nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"y{index}"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Relu", [f"y{index}"], [f"z{index}"]))
    last = f"z{index}"
ports = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width, 480, 640])] for name, width in (("image", 3), (last, 16))]
graph = helper.make_graph(nodes, "graph", *ports, weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def measure(arena, planned):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    options.enable_mem_pattern = planned
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    image = {"image": np.zeros((1, 3, 480, 640), np.float32)}
    for _ in range(5):
        session.run(None, image)
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    for _ in range(10):
        session.run(None, image)
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{(time.process_time() - start) * 100:.1f} {(after.ru_minflt - before.ru_minflt) / 10:.0f} {after.ru_maxrss / 1024:.0f}")


thread = threading.Thread(target=measure, args=[word == "yes" for word in sys.argv[1:]])
thread.start()
thread.join()
PY
"$folder/venv/bin/python" - "$folder" <<'PY'
import subprocess
import sys
from importlib.metadata import version

found = {}
for arena, planned in (("no", "yes"), ("yes", "yes"), ("yes", "no")):
    command = [sys.executable, f"{sys.argv[1]}/passes.py", arena, planned]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found[arena, planned] = cpu, faults, peak = [float(word) for word in said.split()]
    print(f"onnxruntime {version('onnxruntime')}, arena {arena}, memory planned {planned}: {cpu:.1f} ms of CPU, {faults:.0f} page faults, {peak:.0f} MB")
none, default, unplanned = found["no", "yes"], found["yes", "yes"], found["yes", "no"]
same = none[1] > 1000 + 20 * max(default[1], unplanned[1]) and none[2] > 1.2 * unplanned[2]
raise SystemExit(0 if same else "this has changed")
PY
