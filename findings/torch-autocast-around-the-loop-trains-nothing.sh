#!/usr/bin/env bash
# torch 2.13.0: `torch.autocast` keeps the bfloat16 copy of each weight until the context is left, also when the weight has
# changed since. With the context around the loop instead of around each forward pass, every step computes with the weights of
# the first one: the loss is the same to the last digit, while the optimiser goes on walking, and no error or warning says so.
#
#   loss of 100 steps: context around the step 5.810 -> 0.036, around the loop 5.810 -> 5.810 (1 different value), weights moved 4.69
#
# `cache_enabled=False` trains as it should. Answered by dance_ondevice/training/trainer.py, which enters the context for one
# forward pass. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import contextlib

import torch
from torch import nn

torch.set_num_threads(1)


def train(around_loop, **options):
    """Losses of 100 steps, and how far the first weight went."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer, begun = torch.optim.SGD(model.parameters(), lr=0.05), model[0].weight.detach().clone()
    x = torch.randn(64, 8)
    losses = []

    def context():
        return torch.autocast("cpu", torch.bfloat16, **options)

    with context() if around_loop else contextlib.nullcontext():
        for _ in range(100):
            with contextlib.nullcontext() if around_loop else context():
                y = model(x)
            loss = nn.functional.mse_loss(y.float(), 2 * x[:, :1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses, float((model[0].weight.detach() - begun).abs().max())


step, _ = train(False)
loop, moved = train(True)
uncached, _ = train(True, cache_enabled=False)
print(f"torch {torch.__version__}: loss of 100 steps: context around the step {step[0]:.3f} -> {step[-1]:.3f}, around the loop "
      f"{loop[0]:.3f} -> {loop[-1]:.3f} ({len(set(loop))} different value), weights moved {moved:.2f}; around the loop without "
      f"the cache {uncached[0]:.3f} -> {uncached[-1]:.3f}")
good = len(set(loop)) == 1 and moved > 0.01 and step[-1] < 0.5 * step[0] and uncached[-1] < 0.5 * uncached[0]
raise SystemExit(0 if good else "this has changed")
PY
