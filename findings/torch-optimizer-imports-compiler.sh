#!/usr/bin/env bash
# torch 2.13.0: making the first optimiser imports torch's compiler (torch._dynamo with sympy, some 800 modules), although nothing is
# compiled. That costs about as much CPU time as `import torch` itself, again in every process that trains:
#
#   import torch 2.3 s, SGD of one layer 2.3 s, modules 1124 -> 1946
#
# Answered by dance_ondevice/training/adamw.py, an AdamW that is no `torch.optim.Optimizer`.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import sys
import time

start = time.process_time()
import torch

imported, layer, before = time.process_time(), torch.nn.Linear(2, 2), len(sys.modules)
unasked, begun = "torch._dynamo" in sys.modules, time.process_time()
torch.optim.SGD(layer.parameters(), lr=0.1)
made = time.process_time()
print(f"torch {torch.__version__}: import torch {imported - start:.1f} s, SGD of one layer {made - begun:.1f} s, "
      f"modules {before} -> {len(sys.modules)}")
changed = unasked or "torch._dynamo" not in sys.modules or len(sys.modules) - before < 300
raise SystemExit("this has changed" if changed else 0)
PY
