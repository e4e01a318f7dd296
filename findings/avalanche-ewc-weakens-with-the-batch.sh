#!/usr/bin/env bash
# avalanche-lib 0.6.0: EWC holds those weights still that matter for what was learnt before, by the mean of the squared gradients of single
# samples (Fisher's information). `EWCPlugin` squares the gradient of a whole batch's mean loss: the samples' gradients cancel
# before they are squared, and what is left is smaller the larger the batch. With one `ewc_lambda` the same
# network is held dozens of times more loosely with batches of 128 than with single samples, and a board that halves its batch to
# fit its memory changes what is forgotten.
#
#   sum of the importances by size of the batch: 1: 4.57, 16: 0.30, 128: 0.06
#
# Not used here: what was learnt before is rehearsed (policies/rounds/rehearsal.py).
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'torch==2.14.1' 'torchvision==0.29.1' 'avalanche-lib==0.6.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import torch
from avalanche.training.plugins.ewc import EWCPlugin
from torch import nn

torch.manual_seed(0)
network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
inputs, labels = torch.randn(512, 8), torch.randint(0, 4, (512,))


class Samples(torch.utils.data.Dataset):
    """512 samples of one task, as Avalanche's data sets give them."""

    def __len__(self):
        return len(inputs)

    def __getitem__(self, index):
        return inputs[index], labels[index], 0


def importance(batch):
    """Sum of the importances of all weights, measured with batches of a size."""
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    found = EWCPlugin(1.0).compute_importances(network, nn.CrossEntropyLoss(), optimiser, Samples(), "cpu", batch)
    return float(sum(each.data.sum() for each in found.values()))


seen = {batch: round(importance(batch), 2) for batch in (1, 16, 128)}
print(f"avalanche-lib {version('avalanche-lib')}: sum of the importances by size of the batch: {seen}")
raise SystemExit(0 if seen[1] > 5 * seen[16] > 10 * seen[128] > 0 else "this has changed")
PY
