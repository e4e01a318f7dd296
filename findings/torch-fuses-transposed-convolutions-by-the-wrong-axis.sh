#!/usr/bin/env bash
# torch 2.13.0: `torch.nn.utils.fuse_conv_bn_eval(conv, norm)` takes a ConvTranspose2d, whose weights have the outputs in their second
# axis, and scales the first, the inputs, unless it is told `transpose=True`. With as many channels in as out, as in most decoders,
# nothing raises and the fused layer answers something else. A depthwise one is right without the word and raises with it, one of
# two groups is wrong without and raises with it: there is no setting for all. `torch.ao.quantization.fuse_modules` knows
# the first kind and raises at the others.
#
#   change by fusing ConvTranspose2d(4, 4): default 0.5, transpose=True 0.0; groups=2: 0.2, RuntimeError; groups=4: 0.0, RuntimeError;
#   Conv2d(4, 4): default 0.0
#
# Answered by dance_ondevice/runtime/folding.py, which folds convolutions alone.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval


def change(kind, groups, **options):
    """Largest change of the output by fusing a layer with its normalisation, or the name of the error."""
    torch.manual_seed(0)
    layer, norm = kind(4, 4, 3, stride=2, groups=groups).eval(), nn.BatchNorm2d(4).eval()
    norm.running_mean.normal_()
    nn.init.uniform_(norm.weight, 0.5, 2)
    image = torch.randn(1, 4, 5, 5)
    with torch.no_grad():
        try:
            return round(float((fuse_conv_bn_eval(layer, norm, **options)(image) - norm(layer(image))).abs().max()), 1)
        except RuntimeError as error:
            return type(error).__name__


seen = {
    f"ConvTranspose2d, groups={groups}": (change(nn.ConvTranspose2d, groups), change(nn.ConvTranspose2d, groups, transpose=True))
    for groups in (1, 2, 4)
}
plain = change(nn.Conv2d, 1)
print(f"torch {torch.__version__}: change by fusing, default and transpose=True: {seen}; Conv2d: {plain}")
(one, told), (two, two_told), (depthwise, depthwise_told) = seen.values()
good = min(one, two) > 0.1 and told == depthwise == plain == 0 and two_told == depthwise_told == "RuntimeError"
raise SystemExit(0 if good else "this has changed")
PY
