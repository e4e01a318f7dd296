#!/usr/bin/env bash
# torch 2.13.0: `swa_utils.update_bn`, which estimates batch normalisation anew for averaged weights, takes "the average" over batches,
# not over images: of 66 images in batches of 64, the last two count as much as the first 64. It puts the whole model into training
# mode for it, so that Dropout in front of a normalisation is at work and the variance found is twice what inference will see, and
# layers that the user froze by `.eval()` lose their statistics as well. The model comes back in the mode that it had.
#
#   64 images of 0 and 2 of 10: running mean 5.00, mean of the images 0.30; variance behind Dropout(0.5) 2.0 of 1.0 at inference;
#   a frozen layer: 0.00 -> 3.00
#
# Answered by dance_ondevice/training/recalibration.py, which lets nothing but normalisation run as in training, and by
# training/batches.py (`_arrange`), which fills the last batch up. Needs python3 and a network. Ends with status 1 if it
# behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

torch.manual_seed(0)
images = torch.cat([torch.zeros(64, 1), torch.full((2, 1), 10.0)])
norm = nn.BatchNorm1d(1).eval()
update_bn(images.split(64), norm)
uneven, true = float(norm.running_mean), float(images.mean())
print(f"torch {torch.__version__}: batches of 64 and 2: running mean {uneven:.2f}, mean of the images {true:.2f}")

noise = [torch.randn(1000, 8) for _ in range(4)]
network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(8)).eval()
update_bn(noise, network)
behind, seen = float(network[1].running_var.mean()), float(torch.cat(noise).var(0).mean())
print(f"variance behind Dropout(0.5): found {behind:.1f}, at inference {seen:.1f}")

frozen = nn.Sequential(nn.BatchNorm1d(8).requires_grad_(False).eval(), nn.BatchNorm1d(8)).train()
frozen[0].eval()
before = float(frozen[0].running_mean.mean())
update_bn([batch + 3 for batch in noise], frozen)
after = float(frozen[0].running_mean.mean())
print(f"a frozen layer: running mean {before:.2f} -> {after:.2f}")
good = abs(uneven - 5) < 0.01 and abs(true - 0.303) < 0.01 and 1.9 < behind < 2.1 and seen < 1.1 and after > 2.9
raise SystemExit(0 if good else "this has changed")
PY
