#!/usr/bin/env bash
# opacus 1.6.0: `ModuleValidator.fix`, the one line that makes a network fit for private training, puts a GroupNorm in the place of each
# BatchNorm, with as many groups as the greatest common divisor of 32 and the channels. For 8, 16 and 32 channels that is a group
# for each channel. Behind a global average pooling, as in the image level of ASPP or BiSeNet's context, such a group is one
# value, minus its own mean: the branch says the same of every image, no gradient passes, and `validate` finds nothing wrong. A
# wide network (64, 256) has no such layer; the one that was slimmed for a board does.
#
#   deviation between images behind pooling and norm: 8 channels 0.000, 16 0.000, 24 1.1, 32 0.000, 64 1.0; as BatchNorm 0.4 to 0.6
#
# `num_groups` puts it right. Not used here: dance_ondevice/models keep their BatchNorm, and statistics never leave a board.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'opacus==1.6.0' \
  'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import torch
from opacus.validators import ModuleValidator
from torch import nn

torch.manual_seed(0)
images = 5 * torch.randn(16, 3, 9, 9)
good = True
for channels in (8, 16, 24, 32, 64):
    branch = nn.Sequential(nn.Conv2d(3, channels, 1), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(channels))
    fixed = ModuleValidator.fix(branch)
    with torch.no_grad():
        before, after = (float(one(images).std(0).max()) for one in (branch.eval(), fixed))
    errors = ModuleValidator.validate(fixed)
    print(f"opacus {version('opacus')}: {channels} channels, {fixed[2].num_groups} groups: deviation between images as BatchNorm "
          f"{before:.2f}, fixed {after:.5f}, errors {len(errors)}")
    good &= before > 0.1 and not errors and (after < 1e-4) == (channels in (8, 16, 32))
raise SystemExit(0 if good else "this has changed")
PY
