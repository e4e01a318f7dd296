#!/usr/bin/env bash
# monai 1.6.1: `include_background=False` leaves channel 0 out of a loss. `DiceLoss` does so behind the softmax. `FocalLoss(use_softmax=True)`
# cuts the logits first and takes the softmax over what is left, so that the background's logit is part of nothing: a pixel of class 1
# that the network takes for background is nearly right, and no gradient says otherwise. With one class beside the background, the usual
# mask of an object, the softmax is over a single channel and always 1: the loss is 0 for every prediction and trains nothing.
# `DiceFocalLoss` adds the two, of two different probabilities. There is a warning for a single channel, which asks before the cut.
#
#   target class 1, logits 10 for the background, 0 for the others: 3 channels 0.09 (3.33 with the background counted), gradient of the
#   background's logit 0.0; 2 channels 0.00, gradient of all logits 0.0; DiceLoss 0.99 and 1.00, gradient of the background's logit not 0
#
# Answered by dance_ondevice/training/losses.py, where what is left out are pixels, never logits.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'monai==1.6.1' 'torch==2.13.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import monai
import torch
from monai.losses import DiceLoss, FocalLoss


def loss(make, channels, background, bias=10.0):
    """The loss of an image of class 1, and the largest gradients of the background's logit and of all."""
    logits = torch.zeros(1, channels, 4, 4)
    logits[:, 0] = bias
    logits.requires_grad_()
    found = make(background)(logits, torch.ones(1, 1, 4, 4))
    found.backward()
    gradient = logits.grad.abs()
    return round(found.item(), 2), float(gradient[:, 0].max()), float(gradient.max())


def focal(background):
    return FocalLoss(include_background=background, to_onehot_y=True, use_softmax=True)


def dice(background):
    return DiceLoss(include_background=background, to_onehot_y=True, softmax=True)


seen = {
    (make.__name__, channels, background): loss(make, channels, background)
    for make in (focal, dice) for channels in (3, 2) for background in (True, False)
}
for (name, channels, background), (value, first, largest) in seen.items():
    told = f"{name}, {channels} channels, include_background={background}: {value:.2f}"
    print(f"monai {monai.__version__}: {told}, gradient of the background {first:.1e}, largest {largest:.1e}")
right = all(seen["dice", channels, False][1] > 0 for channels in (3, 2))
right &= seen["focal", 3, True][0] == 3.33 and seen["focal", 3, True][1] > 0.01
right &= seen["focal", 3, False][:2] == (0.09, 0.0) and seen["focal", 2, False] == (0.0, 0.0, 0.0)
# The same when the network is right, wrong or undecided.
right &= all(loss(focal, 2, False, bias) == (0.0, 0.0, 0.0) for bias in (-10.0, 0.0, 3.0))
raise SystemExit(0 if right else "this has changed")
PY
