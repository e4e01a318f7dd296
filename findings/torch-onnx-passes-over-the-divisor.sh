#!/usr/bin/env bash
# torch 2.13.0: `torch.onnx.export` refuses what it cannot write, but both of its exporters take `avg_pool2d(divisor_override=1)`,
# torch's way to sum over windows (densities, counts of pixels), and write a plain AveragePool: the file gives means. Nothing is said. A
# `floor_divide` by a float rounds down in torch and towards zero in a file of the older exporter, so that -1 // 2 is 0.
#
#   sum of windows of four ones: torch 4.0, file of dynamo=True 1.0, of dynamo=False 1.0; -1 // 2: torch -1.0, True -1.0, False 0.0
#
# Answered by daemon/commands/models/export.py, which compares what it exported before it writes one. Needs python3 and a network. Ends
# with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'onnx==1.23.2' \
  'onnxscript==0.7.2' 'onnxruntime==1.32.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - "$folder/n.onnx" <<'PY'
import contextlib
import io
import logging
import sys
import warnings

import onnxruntime
import torch
from torch.nn import functional as F

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)


class Sums(torch.nn.Module):
    def forward(self, x):
        return F.avg_pool2d(x, 2, 2, divisor_override=1)


class Halves(torch.nn.Module):
    def forward(self, x):
        return torch.floor_divide(x, 2.0)


def first(network, image, dynamo):
    """The first value that a file of the exporter gives."""
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(network, (image,), sys.argv[1], dynamo=dynamo, input_names=["x"])
    return float(onnxruntime.InferenceSession(sys.argv[1]).run(None, {"x": image.numpy()})[0].flat[0])


seen = {}
for network, value in ((Sums(), 1.0), (Halves(), -1.0)):
    image = torch.full((1, 1, 4, 4), value)
    name = type(network).__name__
    seen[name] = float(network(image).flatten()[0]), first(network, image, True), first(network, image, False)
    print("torch {}: {}: torch {:.1f}, dynamo=True {:.1f}, dynamo=False {:.1f}".format(torch.__version__, name, *seen[name]))
raise SystemExit(0 if seen == {"Sums": (4, 1, 1), "Halves": (-1, -1, 0)} else "this has changed")
PY
