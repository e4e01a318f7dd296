#!/usr/bin/env bash
# torch 2.13.0: `torch.onnx.export(model, args, "m.onnx")` writes two files, also for a model of 0.3 MB: "m.onnx" has no weights, they
# lie in "m.onnx.data" and are found by that name. Copied alone, the file that was asked for does not open.
#
#   a convolution of 0.3 MB: m.onnx 2 kB, m.onnx.data 295 kB; copied alone: not opened
#
# Answered by dance_ondevice/runtime/formats.py (`dynamo=False`): one file is one version.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} \
    'torch==2.13.0' 'onnx==1.23.2' 'onnxscript==0.7.2' 'onnxruntime==1.23.2' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import logging
import shutil
from pathlib import Path

import onnxruntime
import torch

logging.disable(logging.WARNING)
model = torch.nn.Conv2d(64, 128, 3).eval()
torch.onnx.export(model, (torch.zeros(1, 64, 8, 8),), "m.onnx", verbose=False)
sizes = {path.name: path.stat().st_size for path in sorted(Path().glob("m.onnx*"))}
Path("elsewhere").mkdir()
shutil.copy("m.onnx", "elsewhere/m.onnx")
opened = []
for path in ("m.onnx", "elsewhere/m.onnx"):
    try:
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        opened.append(True)
    except Exception:  # whatever class it is: it does not open
        opened.append(False)
weights = sum(one.numel() * 4 for one in model.parameters())
print(f"torch {torch.__version__}: a convolution of {weights / 1e6:.1f} MB: "
      + ", ".join(f"{name} {size / 1000:.0f} kB" for name, size in sizes.items())
      + f"; copied alone: {'opened' if opened[1] else 'not opened'}")
assert opened == [True, False] and sizes["m.onnx.data"] >= weights > 10 * sizes["m.onnx"], "this has changed"
PY
