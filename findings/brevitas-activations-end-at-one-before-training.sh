#!/usr/bin/env bash
# brevitas 0.13.4 and optimum-quanto 0.2.7: a float network's weights are loaded into its quantized twin (`load_state_dict`, with the scales
# of the activations missing, as they must be, or `quantize`) and evaluated, to know what int8 costs before any training. What was never
# measured has a scale all the same, and it is used: in brevitas the range ends at 1, whatever is larger is 1 behind a QuantReLU; in
# quanto a scale of 1 rounds each layer's output to whole numbers. Masks look plausible and are worse; "int8 costs 14 %" of pixels is what
# one reads. After one image under `calibration_mode` or in training it is less than one in a hundred. Neither warns nor raises;
# quanto's documentation says that activations want a calibration.
#
#   brevitas: largest output of ReLU 7.1, of QuantReLU 1.0, 86 % of pixels of one class with the float network, after calibration 100 %;
#   quanto: values of the last layer are 8 whole numbers, where the float network has 8176 values
#
# Answered by dance_ondevice/runtime/comparing.py, which compares the masks of what is written with those of the float network.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'brevitas==0.13.4' \
  'optimum-quanto==0.2.7' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - 2>"$folder/errors" <<'PY' || { status=$?; cat "$folder/errors"; exit $status; }
from importlib.metadata import version

import brevitas.nn as qnn
import torch
from brevitas.graph.calibrate import calibration_mode
from optimum.quanto import freeze, qint8, quantize
from torch import nn

torch.manual_seed(0)
images = torch.randn(8, 4, 16, 16) * 3
float_network = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
quantized = nn.Sequential(qnn.QuantConv2d(4, 8, 3, padding=1), qnn.QuantReLU(), qnn.QuantConv2d(8, 4, 1))
missing, unexpected = quantized.load_state_dict(float_network.state_dict(), strict=False)
assert not unexpected and all("scaling" in key for key in missing), (missing, unexpected)
quantized.eval()
agreeing = lambda scores: float((scores.argmax(1) == float_network(images).argmax(1)).float().mean())
with torch.no_grad():
    largest, cut, before = float(float_network[:2](images).max()), float(quantized[:2](images).max()), agreeing(quantized(images))
    with calibration_mode(quantized):
        quantized(images[:1])
    after = agreeing(quantized(images))
    other = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    other.load_state_dict(float_network.state_dict())
    quantize(other, weights=qint8, activations=qint8)
    freeze(other)
    whole = other(images).dequantize()
kinds, kinds_of_float = whole.unique().numel(), float_network(images).unique().numel()
print(f"brevitas {version('brevitas')}: largest output of ReLU {largest:.1f}, of QuantReLU {cut:.1f}; pixels of one class with the float "
      f"network {before:.2f}, after one image of calibration {after:.2f}")
print(f"optimum-quanto {version('optimum-quanto')}: different values of the last layer {kinds}, of the float network {kinds_of_float}, "
      f"whole numbers {bool((whole == whole.round()).all())}")
good = largest > 5 and cut == 1 and before < 0.95 and after > 0.98 and kinds < 30 and bool((whole == whole.round()).all())
raise SystemExit(0 if good else "this has changed")
PY
