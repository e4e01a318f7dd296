#!/usr/bin/env bash
# executorch 1.5.1: a method checks the type and the size of what it is given, and that it is contiguous in one of two orders, but
# not in which of them. A camera's frame (height, width, channels) turned by `permute`, as every example does it, is in the other
# one than what was exported (channels_last), and its memory is read as if it were not: the output is that of a scrambled image, with
# no error. `contiguous()` before `execute` is right; exporting with a channels_last example moves the mistake to the other kind.
#
#   largest output 0.8, error for the frame as permuted 0.6, against torch on its scrambled memory 0.0, after contiguous() 0.0
#
# Answered by dance_ondevice/runtime/formats.py (`_read_executorch`), which makes the input contiguous.
# Needs python3, a network and x86-64 or aarch64. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6' \
    'executorch==1.5.1'
"$folder/venv/bin/python" -W ignore - 2>/dev/null <<'PY'
from importlib.metadata import version

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()).eval()
exported = torch.export.export(model, (torch.zeros(1, 3, 16, 16),))
lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
data = lowered.to_executorch().buffer
program = Runtime.get().load_program(data)
method = program.load_method("forward")

frame = torch.from_numpy(np.random.default_rng(0).random((16, 16, 3), np.float32))
permuted = frame.permute(2, 0, 1)[None]
with torch.no_grad():
    right, scrambled = model(permuted), model(frame.reshape(1, 3, 16, 16))
as_permuted, as_contiguous = method.execute((permuted,))[0], method.execute((permuted.contiguous(),))[0]


def apart(one, other):
    return float((one - other).abs().max())


seen = apart(as_permuted, right), apart(as_permuted, scrambled), apart(as_contiguous, right)
print(f"executorch {version('executorch')}: largest output {float(right.max()):.1f}, error for the frame as permuted "
      f"{seen[0]:.1f}, against torch on its scrambled memory {seen[1]:.1f}, after contiguous() {seen[2]:.1f}")
raise SystemExit(0 if seen[0] > 0.1 and max(seen[1:]) < 1e-4 else "this has changed")
PY
