#!/usr/bin/env bash
# torch 2.13.0, CPU: `torch.histc`, `torch.histogram` and `torch.bincount` with float32 weights count by adding 1 to a float32, and
# 16,777,216 + 1 is 16,777,216 in float32: the count stays there, and nothing says so. Nine full HD masks hold a class more often
# than that; class weights from such counts treat every common class as equally common. With several threads each thread's
# part stops there, so the answer depends on the board's cores. `torch.bincount` without weights and numpy are right.
#
#   20,000,000 pixels of one class: histc 16777216, histogram 16777216, bincount with weights 16777216, bincount 20000000
#
# Answered by dance_ondevice/training/losses.py and batches.py, which count in integers.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import torch

torch.set_num_threads(1)
PIXELS = 20_000_000
ids = torch.zeros(PIXELS, dtype=torch.uint8)
found = {
    "histc": torch.histc(ids.float(), bins=2, min=0, max=1)[0],
    "histogram": torch.histogram(ids.float(), bins=2, range=(0.0, 1.0)).hist[0],
    "bincount with weights": torch.bincount(ids, weights=torch.ones(PIXELS))[0],
    "bincount": torch.bincount(ids)[0],
}
seen = {name: int(count) for name, count in found.items()}
print(f"torch {torch.__version__}: {PIXELS:,} pixels of one class: " + ", ".join(f"{name} {count}" for name, count in seen.items()))
raise SystemExit(0 if list(seen.values()) == [2**24] * 3 + [PIXELS] else "this has changed")
PY
