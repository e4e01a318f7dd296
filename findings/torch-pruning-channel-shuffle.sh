#!/usr/bin/env bash
# torch-pruning 1.6.1 with torch 2.13.0: the channels before a channel shuffle (view, transpose, reshape, as in ShuffleNet) are
# pruned without an error, `check_pruning_group` says True, and the layer behind loses other inputs than the ones that
# were cut. Two channels that give nothing but zeros are taken away here; the output should stay as it is:
#
#   check_pruning_group True; output changed by 0.78, its largest value is 1.09
#
# Answered by dance_ondevice/slimming/slim.py, which compares the network before and after such a cut and refuses.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6' \
    'torch-pruning==1.6.1'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import torch
import torch_pruning
from torch import nn


class Shuffled(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        y = self.first(x)
        n, c, h, w = y.shape
        return self.second(y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


torch.manual_seed(0)
model, x = Shuffled().eval(), torch.randn(1, 3, 4, 4)
with torch.no_grad():
    model.first.weight[:2] = 0
    model.first.bias[:2] = 0
    before = model(x)
graph = torch_pruning.DependencyGraph().build_dependency(model, x)
group = graph.get_pruning_group(model.first, torch_pruning.prune_conv_out_channels, idxs=[0, 1])
checked = graph.check_pruning_group(group)
group.prune()
with torch.no_grad():
    change, largest = float((model(x) - before).abs().max()), float(before.abs().max())
print(f"torch-pruning {version('torch-pruning')}: check_pruning_group {checked}; output changed by {change:.2f}, "
      f"its largest value is {largest:.2f}")
raise SystemExit(0 if checked and change > 0.1 else "this has changed")
PY
