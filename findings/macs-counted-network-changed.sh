#!/usr/bin/env bash
# fvcore 0.1.5.post20221221, torchsummary 1.5.1, ptflops 0.7.5, calflops 0.3.2, torch-pruning 1.6.1: to count a network's operations or to
# trace it for pruning one runs it once, and it is not the network that it was. fvcore and torchsummary run a network that is being
# trained as it is, on noise or zeros: its running statistics move by a tenth towards those of noise, and are saved. ptflops,
# calflops, torch-pruning's dependency graph and its pruners leave it in evaluation mode: what trains on from there learns without
# dropout and with frozen statistics. thop and torchinfo put back what they change. Nothing is said in any.
#
#   of a network in training mode: fvcore, torchsummary: statistics moved; ptflops, calflops, torch-pruning: left in evaluation mode;
#   thop, torchinfo: unchanged
#
# Answered by dance_ondevice/models/cost.py (`evaluating`), which gives each module its own mode back, and slimming/tracing.py, which
# traces a copy. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6' \
  'torch-pruning==1.6.1' 'fvcore==0.1.5.post20221221' 'torchsummary==1.5.1' 'ptflops==0.7.5' 'calflops==0.3.2' 'transformers==5.24.0' \
  'thop==0.1.1.post2209072238' 'torchinfo==1.8.0'
"$folder/venv/bin/python" -W ignore - <<'PY'
import contextlib
import io
import logging
from importlib.metadata import version

import torch
import torch_pruning
import torchinfo
import torchsummary
from calflops import calculate_flops
from fvcore.nn import FlopCountAnalysis
from ptflops import get_model_complexity_info
from thop import profile
from torch import nn

logging.disable(logging.CRITICAL)
image = torch.randn(2, 3, 16, 16)


def prune(network):
    importance = torch_pruning.importance.MagnitudeImportance()
    torch_pruning.pruner.MagnitudePruner(network, image, importance=importance, pruning_ratio=0.5, ignored_layers=[network[2]])


def graph(network):
    torch_pruning.DependencyGraph().build_dependency(network, image)


counters = {
    "fvcore": lambda network: FlopCountAnalysis(network, image).total(),
    "torchsummary": lambda network: torchsummary.summary(network, (3, 16, 16), device="cpu"),
    "ptflops": lambda network: get_model_complexity_info(network, (3, 16, 16), print_per_layer_stat=False, verbose=False),
    "calflops": lambda network: calculate_flops(network, (1, 3, 16, 16), print_results=False),
    "torch-pruning": graph,
    "torch-pruning's pruner": prune,
    "thop": lambda network: profile(network, (image,), verbose=False),
    "torchinfo": lambda network: torchinfo.summary(network, (2, 3, 16, 16), verbose=0),
}
seen = {}
for name, count in counters.items():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)).train()
    before = network[1].running_var.clone()
    with contextlib.redirect_stdout(io.StringIO()):
        count(network)
    moved = not torch.equal(network[1].running_var, before)
    seen[name] = ["statistics moved"] * moved + ["left in evaluation mode"] * (not network.training)
    print(f"{name} {version(name.split(chr(39))[0])}: {', '.join(seen[name]) or 'unchanged'}")
moved, evaluating = ["statistics moved"], ["left in evaluation mode"]
good = list(seen.values()) == [moved, moved, evaluating, evaluating, evaluating, evaluating, [], []]
raise SystemExit(0 if good else "this has changed")
PY
