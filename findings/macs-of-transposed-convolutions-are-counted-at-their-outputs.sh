#!/usr/bin/env bash
# thop 0.1.1.post2209072238, torchinfo 1.8.0, torch-pruning 1.6.1 count a transposed convolution like a plain one, pixels of the output
# times the kernel. Each of its outputs meets only a part of the kernel: it works at its input, and with stride 2 does a quarter of
# that, with stride 4 a sixteenth. fvcore 0.1.5, ptflops 0.7.5 and torch 2.13.0's own counter say so. A decoder of transposed
# convolutions is billed four times what it costs, slimming turns to it first, and tables of two papers do not compare.
# For plain convolutions, strided ones too, all six agree.
#
#   64 to 64 channels, 4x4, stride 2, from 8x8 to 16x16 pixels, in millions: thop 16.8, torchinfo 16.8, torch-pruning 16.8, fvcore 4.2,
#   ptflops 4.2, torch 4.2; multiplications that happen: 4.2
#
# Answered by dance_ondevice/models/cost.py (`_macs_of`), which counts them at the input.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6' \
  'thop==0.1.1.post2209072238' 'torchinfo==1.8.0' 'torch-pruning==1.6.1' 'fvcore==0.1.5.post20221221' 'ptflops==0.7.5'
"$folder/venv/bin/python" -W ignore - <<'PY'
import fvcore.nn
import ptflops
import thop
import torch
import torch_pruning
import torchinfo
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

IMAGE = torch.zeros(1, 64, 8, 8)


def counts(layer):
    """Multiply-accumulates in millions as each package counts them."""
    network = nn.Sequential(layer)
    found = {"torchinfo": torchinfo.summary(network, IMAGE.shape, verbose=0).total_mult_adds}
    found["torch-pruning"] = torch_pruning.utils.count_ops_and_params(network, IMAGE)[0]
    found["fvcore"] = fvcore.nn.FlopCountAnalysis(network, IMAGE).total()
    options = {"as_strings": False, "print_per_layer_stat": False, "verbose": False}
    found["ptflops"] = ptflops.get_model_complexity_info(network, tuple(IMAGE.shape[1:]), **options)[0]
    with FlopCounterMode(display=False) as counter:
        network(IMAGE)
    found["torch"] = counter.get_total_flops() / 2
    found["thop"] = thop.profile(network, (IMAGE,), verbose=False)[0]  # last: it leaves hooks behind
    return {name: round(float(value) / 1e6, 1) for name, value in found.items()}


def happening():
    """Products of an input and a weight that are added into the output, in millions: a sum of ones times ones."""
    ones = nn.ConvTranspose2d(1, 1, 4, 2, bias=False)
    ones.weight.data.fill_(1)
    return round(float(ones(torch.ones(1, 1, 8, 8)).sum()) * 64 * 64 / 1e6, 1)


turned, plain = nn.ConvTranspose2d(64, 64, 4, 2, 1, bias=False), nn.Conv2d(64, 64, 4, 2, 1, bias=False)
true = happening()
seen, usual = counts(turned), counts(plain)
print(f"torch {torch.__version__}: transposed, stride 2: {seen}, happening {true}; plain, stride 2: {usual}")
wrong = {name for name, value in seen.items() if value == 16.8}
right = {name for name, value in seen.items() if value == true}
expected = ({"thop", "torchinfo", "torch-pruning"}, {"fvcore", "ptflops", "torch"})
raise SystemExit(0 if (wrong, right) == expected and set(usual.values()) == {1.0} else "this has changed")
PY
