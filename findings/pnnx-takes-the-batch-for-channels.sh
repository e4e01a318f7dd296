#!/usr/bin/env bash
# pnnx 20261020, ncnn 1.0.20261020: ncnn has no batch axis, and pnnx finds out from the layers which axis to leave out: a convolution or a
# pooling tells. A part of a network without one, as a head that is exported by itself (the largest score of a pixel, the difference of
# two classes, channels put in another order, a picture turned over), is converted with the axes counted from the batch: classes become
# rows. The file loads and runs, some results even have the right shape, no error and no word at conversion. With a 1x1 convolution
# in front that changes nothing, all are right.
#
#   3 classes, 4x5 pixels, largest error against torch: alone amax(1), mean(1) and x[:, :1] - x[:, 1:2] another shape, flip(3) 3.4, flip(1)
#   2.5; behind a convolution 0.0 in all
#
# Answered by dance_ondevice/runtime/comparing.py, which takes an engine only where its masks agree with those of torch; ncnn is not one of
# those offered. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'pnnx==20261020' \
  'ncnn==1.0.20261020' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" -W ignore - "$folder/venv/bin/pnnx" <<'PY'
import subprocess
import sys
from importlib.metadata import version

import ncnn
import numpy as np
import torch
from torch import nn


class Head(nn.Module):
    """One operation on scores, by itself or behind a convolution that changes nothing."""

    def __init__(self, operation, behind):
        super().__init__()
        self.operation = operation
        self.before = nn.Conv2d(3, 3, 1, bias=False) if behind else nn.Identity()
        if behind:
            self.before.weight.data = torch.eye(3).view(3, 3, 1, 1)

    def forward(self, x):
        return self.operation(self.before(x))


def error(operation, behind):
    """The largest error of ncnn against torch."""
    x = torch.randn((1, 3, 4, 5), generator=torch.Generator().manual_seed(0))
    head = Head(operation, behind).eval()
    torch.jit.trace(head, x).save("head.pt")
    command = [sys.argv[1], "head.pt", "inputshape=[1,3,4,5]", "fp16=0"]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603  the program just installed
    net = ncnn.Net()
    net.load_param("head.ncnn.param")
    net.load_model("head.ncnn.bin")
    extractor = net.create_extractor()
    extractor.input("in0", ncnn.Mat(x[0].numpy()))
    found = np.array(extractor.extract("out0")[1])
    expected = head(x)[0].detach().numpy()
    return round(float(np.abs(found - expected).max()), 1) if found.shape == expected.shape else "another shape"


operations = {
    "amax(1)": lambda x: x.amax(1, keepdim=True),
    "mean(1)": lambda x: x.mean(1, keepdim=True),
    "x[:, :1] - x[:, 1:2]": lambda x: x[:, :1] - x[:, 1:2],
    "flip(3)": lambda x: x.flip(3),
    "flip(1)": lambda x: x.flip(1),
}
alone = {name: error(operation, False) for name, operation in operations.items()}
behind = {name: error(operation, True) for name, operation in operations.items()}
print(f"pnnx {version('pnnx')}, ncnn {version('ncnn')}: alone {alone}, behind a convolution {behind}")
wrong = all(found == "another shape" or found > 0.1 for found in alone.values())
raise SystemExit(0 if wrong and set(behind.values()) == {0} else "this has changed")
PY
