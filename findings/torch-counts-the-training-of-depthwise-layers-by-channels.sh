#!/usr/bin/env bash
# torch 2.13.0: `FlopCounterMode`, PyTorch's own counter, is right for the forward pass of a convolution with groups and for the gradient of
# its input, and counts the gradient of its weights as if it had no groups: C times what is done in a depthwise layer of C channels.
# A training step costs two to three times a forward pass, which is true of the layers without groups; with 64 channels it counts 66 times,
# with 512 more than 500. So what training costs in networks for boards (MobileNet, BiSeNetV2, Fast-SCNN) consists of work that is not
# there, an energy by operations is too high by as much, and the layers that save most seem to be the dearest.
#
#   backward / forward, without groups 2.0, 2 groups 3.0, depthwise of 16, 64, 256 channels 17.0, 65.0, 257.0
#
# Answered by dance_ondevice/models/cost.py (`training_macs`): each of the two products counts as much as the layer's forward pass. Needs
# python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import torch
from torch.utils.flop_counter import FlopCounterMode


def ratio(channels, groups):
    """Operations of the backward pass by those of the forward pass, and those of the forward pass by what they should be."""
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
    x = torch.zeros(2, channels, 8, 8, requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        layer(x)
    with FlopCounterMode(display=False) as both:
        layer(x).sum().backward()
    first = forward.get_total_flops()
    return (both.get_total_flops() - first) / first, first / (2 * 2 * 64 * 9 * channels * channels // groups)


seen = {}
for channels, groups in ((64, 1), (64, 2), (16, 16), (64, 64), (256, 256)):
    seen[channels, groups] = ratio(channels, groups)
    told = "backward / forward {:.1f}, forward / what it does {:.1f}".format(*seen[channels, groups])
    print(f"torch {torch.__version__}: {channels} channels in {groups} groups: {told}")
raise SystemExit(0 if all(found == (1 + groups, 1) for (_, groups), found in seen.items()) else "this has changed")
PY
