#!/usr/bin/env bash
# safetensors 0.8.0: `safetensors.numpy.save` writes an array's memory as it lies there, under the shape that the array has. A
# transposed array, one in Fortran order and every second value of an array come back with other values, without a word;
# `safetensors.torch.save` refuses the same tensors with a ValueError. And `astype` keeps the order of what it converts,
# so a cast before saving does not help.
#
#   transposed, cast: [[0, 1], [2, 3], [4, 5]] for [[0, 3], [1, 4], [2, 5]]; every second: [0, 1, 2] for [0, 2, 4]
#
# Answered by dance_ondevice/fleet/offers.py and versions.py, which write arrays in C order.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'safetensors==0.8.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import safetensors
from safetensors.numpy import load, save

arrays = {
    "transposed, cast": np.arange(6, dtype=np.float32).reshape(2, 3).T.astype(np.float16),
    "every second": np.arange(6)[::2],
}
back = {name: load(save({"a": array}))["a"].astype(int).tolist() for name, array in arrays.items()}
told = "; ".join(f"{name}: {back[name]} for {array.astype(int).tolist()}" for name, array in arrays.items())
print(f"safetensors {safetensors.__version__}: {told}")
assert back == {"transposed, cast": [[0, 1], [2, 3], [4, 5]], "every second": [0, 1, 2]}, "this has changed"
PY
