#!/usr/bin/env bash
# executorch 1.5.1: `F.interpolate(scale_factor=0.6, mode="bilinear")` finds pixels by 1 / 0.6 in torch, in an exported program and in
# executorch's portable kernels. Lowered to XNNPACK, the fast way that one takes, it goes by the sizes, 8/4 for 0.6 of 8 pixels, where
# the scale is not met exactly: the partitioner takes the operator and drops the scale. What is resized lies up to a pixel or
# more aside towards the far corner. With `size=` all agree.
#
#   0 to 63 (8x8) by 0.6, first and last: torch 3.0 48.0, portable 3.0 48.0, XNNPACK 4.5 58.5; with size=(4, 4) all 4.5 58.5
#
# Answered by dance_ondevice/models/layers.py (`resize`), which resizes to sizes, and by the comparison before an export is written.
# Needs python3, a network and x86-64 or aarch64. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'executorch==1.5.1' \
  'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - 2>"$folder/errors" <<'PY' || { status=$?; cat "$folder/errors"; exit $status; }
import logging
from importlib.metadata import version

logging.disable(logging.CRITICAL)

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime
from torch.nn import functional as F


class Resized(torch.nn.Module):
    def __init__(self, **to):
        super().__init__()
        self.to = to

    def forward(self, x):
        return F.interpolate(x, mode="bilinear", **self.to)


def executed(network, image, partitioners):
    lowered = to_edge_transform_and_lower(torch.export.export(network, (image,)), partitioner=partitioners)
    method = Runtime.get().load_program(lowered.to_executorch().buffer).load_method("forward")
    return method.execute([image])[0]


ramp, seen = torch.arange(64.0).reshape(1, 1, 8, 8), {}
for to in ({"scale_factor": 0.6}, {"size": (4, 4)}):
    network = Resized(**to).eval()
    found = {
        "torch": network(ramp),
        "portable": executed(network, ramp, []),
        "XNNPACK": executed(network, ramp, [XnnpackPartitioner()]),
    }
    seen[next(iter(to))] = ends = {k: (round(float(v.flatten()[0]), 1), round(float(v.flatten()[-1]), 1)) for k, v in found.items()}
    print(f"executorch {version('executorch')}: {to}: first and last value: {ends}")
by_scale, by_size = seen["scale_factor"], seen["size"]
good = (
    by_scale["portable"] == by_scale["torch"] != by_scale["XNNPACK"] == by_size["XNNPACK"] == by_size["torch"] == by_size["portable"]
)
raise SystemExit(0 if good else "this has changed")
PY
