#!/usr/bin/env bash
# OpenVINO 2026.4.1: a float32 model on a CPU with bfloat16 instructions is computed in bfloat16 by default; inputs, outputs and the
# file stay float32, so nothing shows it. The same file gives other numbers on the next machine, and a comparison with
# "float32" is one of two precisions. `INFERENCE_PRECISION_HINT: f32` turns it off.
#
#   asked for nothing: bf16, relative difference to f32 0.0024
#
# Answered by dance_ondevice/runtime/comparing.py, which takes an engine only where its masks agree with those of torch.
# Needs python3, a network, and a CPU with avx512_bf16; ends with status 0 without one, with 1 if it behaves otherwise.
set -euo pipefail
grep -qw avx512_bf16 /proc/cpuinfo || { echo "skipped: this CPU has no avx512_bf16"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'openvino==2026.4.1' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import openvino
import openvino.opset13 as ops

values = np.random.default_rng(0)
x = ops.parameter([1, 64, 32, 32], np.float32)
weight = ops.constant(values.standard_normal((64, 64, 3, 3)).astype(np.float32))
model = openvino.Model([ops.convolution(x, weight, [1, 1], [1, 1], [1, 1], [1, 1])], [x], "model")
image = values.standard_normal((1, 64, 32, 32)).astype(np.float32)
core, found, precisions = openvino.Core(), [], []
for asked in ({}, {"INFERENCE_PRECISION_HINT": "f32"}):
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, **asked})
    precisions.append(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    found.append(compiled(image)[0])
difference = float(np.linalg.norm(found[0] - found[1]) / np.linalg.norm(found[1]))
print(f"OpenVINO {openvino.__version__.split('-')[0]}: asked for nothing: {precisions[0]}, relative difference to "
      f"{precisions[1]} {difference:.4f}")
changed = precisions != ["bf16", "f32"] or difference < 5e-4
raise SystemExit("this has changed" if changed else 0)
PY
