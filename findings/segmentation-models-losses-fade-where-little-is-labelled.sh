#!/usr/bin/env bash
# segmentation-models-pytorch 0.6.0: `SoftCrossEntropyLoss(ignore_index=255)` leaves ignored pixels out of the sum and counts them in the
# mean. With a few taps for labels, one pixel in a hundred, loss and gradient are a hundredth of torch's `cross_entropy` with the same
# index: a learning rate that fits full masks learns nothing, and in a mixed batch the full masks alone count. `DiceLoss`,
# `JaccardLoss` and `TverskyLoss` divide by all classes, also those that the batch does not show: every pixel wrong costs 1 / 19.
# `FocalLoss` and `LovaszLoss` beside them do neither.
#
#   every pixel, every second, every hundredth labelled: torch 1.98, 1.99, 2.14; SoftCrossEntropyLoss 1.98, 0.99, 0.021; one class of 19 and
#   every pixel wrong: DiceLoss, JaccardLoss, TverskyLoss 0.05, LovaszLoss 1.0
#
# Answered by dance_ondevice/training/losses.py (`weighted_cross_entropy`): the mean is over what is labelled.
# Needs python3 and a network; the losses alone are loaded, for which torch is enough. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6'
"$folder/venv/bin/pip" install --quiet --no-deps 'segmentation-models-pytorch==0.6.0'
"$folder/venv/bin/python" - <<'PY'
import importlib.machinery
import importlib.util
import sys
from importlib.metadata import version

import torch
from torch.nn.functional import cross_entropy, one_hot

name = "segmentation_models_pytorch"
package = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, None, is_package=True))
package.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
sys.modules[name] = package  # without the encoders, for which other packages are needed
losses = importlib.import_module(f"{name}.losses")

torch.manual_seed(0)
logits = torch.randn(1, 5, 100, 100)
label = torch.randint(0, 5, (1, 100, 100))
seen = {}
for every in (1, 2, 100):
    some = torch.full_like(label, 255)
    some.view(-1)[::every] = label.view(-1)[::every]
    ours = losses.SoftCrossEntropyLoss(smooth_factor=0.0, ignore_index=255)(logits, some)
    seen[every] = (float(cross_entropy(logits, some, ignore_index=255)), float(ours))
    print(f"{name} {version('segmentation-models-pytorch')}: one pixel of {every} labelled: torch {seen[every][0]:.2f}, "
          f"SoftCrossEntropyLoss {seen[every][1]:.3f}")
road = torch.zeros(1, 20, 20, dtype=torch.long)
wrong = 50.0 * one_hot(road + 1, 19).permute(0, 3, 1, 2)
costs = {kind: float(getattr(losses, kind)("multiclass")(wrong, road)) for kind in ("DiceLoss", "JaccardLoss", "TverskyLoss", "LovaszLoss")}
print(f"one class of 19 labelled and every pixel wrong: {({kind: round(cost, 2) for kind, cost in costs.items()})}")
good = all(abs(theirs * 1.0 / every - ours) < 1e-3 for every, (theirs, ours) in seen.items())
good &= all(abs(costs[kind] - 1 / 19) < 1e-3 for kind in ("DiceLoss", "JaccardLoss", "TverskyLoss")) and costs["LovaszLoss"] > 0.99
raise SystemExit(0 if good else "this has changed")
PY
