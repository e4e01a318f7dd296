#!/usr/bin/env bash
# safetensors 0.8.0: a dict of Python keeps its order, and `load_file` gives the same order at every call (by type and name, not that of
# the dict that was saved). `load`, for bytes as they come from a socket or a store, gives the tensors of the very same bytes in
# another order at every call. Who takes them as a list, as federated learning does with `zip(state_dict(), arrays)`, or sums them up
# in turn, puts layers of one shape in each other's place: no error, another network each time. Nothing says that there is no order.
#
#   12 layers, loaded 20 times: load 20 different orders, load_file 1; as saved: load_file False
#
# Answered by dance_ondevice/fleet/root.py and conditions/arrays.py, which take each array by its name. Needs python3 and a network. Ends
# with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'safetensors==0.8.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - "$folder/layers.safetensors" <<'PY'
import sys
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import load, load_file, save

layers = {f"layer{number}.weight": np.full(4, number, np.float32) for number in range(12)}
file = Path(sys.argv[1])
file.write_bytes(save(layers))
data = file.read_bytes()
from_bytes = {tuple(load(data)) for _ in range(20)}
from_file = {tuple(load_file(file)) for _ in range(20)}
as_saved = tuple(layers) in from_file
print(f"safetensors {safetensors.__version__}: {len(layers)} layers, loaded 20 times: load {len(from_bytes)} different orders, "
      f"load_file {len(from_file)}; as saved: load_file {as_saved}")
raise SystemExit(0 if len(from_bytes) > 5 and len(from_file) == 1 and not as_saved else "this has changed")
PY
