#!/usr/bin/env bash
# optimum-quanto 0.2.7: `quantize(model, weights=qint8, activations=qint8)`, a pass under `Calibration()` and `freeze` are its way to int8
# activations. In a network of convolutions nothing is left of them: `Calibration` switches the output of a layer off again ("streamline",
# its default) where what follows has no int8 form, which its docstring says of `add` or `silu`, and it has none for a convolution,
# not even for one behind another. The outputs are those of int8 weights alone to the last bit, so that an accuracy "after int8"
# says nothing of int8 activations, while each layer goes on naming qint8 and the scales that were measured. With
# `streamline=False` they are quantized, and Linear layers are either way. No warning; in issue 336 its maintainer explains the switch.
#
#   difference from int8 weights alone: Conv2d, ReLU, Conv2d 0.0, Conv2d, Conv2d 0.0, with streamline=False 0.03 and more; Linear 0.03
#
# Answered by dance_ondevice/runtime/comparing.py, which judges the file that is served by its masks; this package is not used here.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'optimum-quanto==0.2.7' \
  'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - 2>"$folder/errors" <<'PY' || { status=$?; cat "$folder/errors"; exit $status; }
from importlib.metadata import version

import torch
from optimum.quanto import Calibration, freeze, qint8, quantize
from torch import nn


def output(layers, value, activations, streamline=True):
    torch.manual_seed(0)
    network = nn.Sequential(*(layer() for layer in layers)).eval()
    quantize(network, weights=qint8, activations=activations)
    if activations is not None:
        with Calibration(streamline=streamline):
            network(value)
    freeze(network)
    found = network(value)
    assert activations is None or all(layer.activation_qtype == qint8 for layer in network if hasattr(layer, "activation_qtype"))
    return found.dequantize() if hasattr(found, "dequantize") else found


networks = {
    "Conv2d, ReLU, Conv2d": [lambda: nn.Conv2d(3, 8, 3), nn.ReLU, lambda: nn.Conv2d(8, 4, 3)],
    "Conv2d, Conv2d": [lambda: nn.Conv2d(3, 8, 3), lambda: nn.Conv2d(8, 4, 3)],
    "Linear, ReLU, Linear": [lambda: nn.Linear(16, 8), nn.ReLU, lambda: nn.Linear(8, 4)],
}
seen = {}
with torch.no_grad():
    for name, layers in networks.items():
        torch.manual_seed(1)
        value = torch.rand(4, 16) * 10 if "Linear" in name else torch.rand(2, 3, 16, 16) * 10
        weights_alone = output(layers, value, None)
        both, all_of_it = output(layers, value, qint8), output(layers, value, qint8, streamline=False)
        seen[name] = float((both - weights_alone).abs().max()), float((all_of_it - weights_alone).abs().max())
        print(f"optimum-quanto {version('optimum-quanto')}: {name}: largest difference of int8 activations from int8 weights alone "
              f"{seen[name][0]:.3f}, with streamline=False {seen[name][1]:.3f}, largest output {float(weights_alone.abs().max()):.1f}")
good = all((seen[name][0] > 1e-3) == ("Linear" in name) and seen[name][1] > 1e-3 for name in networks)
raise SystemExit(0 if good and seen["Conv2d, Conv2d"][0] == 0 else "this has changed")
PY
