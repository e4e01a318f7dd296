#!/usr/bin/env bash
# torch 2.13.0 on a CPU with bfloat16 instructions: the gradient of the weights of a dilated convolution in bfloat16 and
# channels_last is right on maps of up to 28 columns and no gradient from 29 on, where it is depthwise (off by more than its
# own length) or has inputs that are no multiple of 16, as pruning leaves them (NaN or far off); in a transposed one, outputs.
# With 32 inputs, at dilation 1 or in contiguous layout it is right at every width, and so are the output and the
# gradient of the input, so that with the depthwise one a network trains, only worse. Relative error against
# float32, at 28 and 29 columns ("wrong" is more than 0.1, or NaN; it is another number in each run):
#
#   depthwise, dilation 1: 0.003 and 0.003, dilation 2: 0.003 and wrong (0.9 to 1.4); 32 inputs: 0.003 and 0.003; 24 inputs:
#   dilation 1 0.003 and 0.003, dilation 2 0.003 and wrong (NaN); transposed to 24 outputs 0.003 and wrong (NaN)
#
# Answered by dance_ondevice/training/precision.py, which keeps these convolutions in float32.
# Needs python3, a network, and a CPU with avx512_bf16; ends with status 0 without one, with 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
grep -qw avx512_bf16 /proc/cpuinfo || { echo "skipped: this CPU has no avx512_bf16"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import torch
from torch import nn

torch.set_num_threads(1)
LAYERS = {
    "depthwise, dilation 1": lambda: nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
    "depthwise, dilation 2": lambda: nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16, bias=False),
    "32 inputs, dilation 2": lambda: nn.Conv2d(32, 32, 3, padding=2, dilation=2, bias=False),
    "24 inputs, dilation 1": lambda: nn.Conv2d(24, 32, 3, padding=1, bias=False),
    "24 inputs, dilation 2": lambda: nn.Conv2d(24, 32, 3, padding=2, dilation=2, bias=False),
    "transposed to 24, dilation 2": lambda: nn.ConvTranspose2d(32, 24, 3, padding=2, dilation=2, bias=False),
}


def error(make, width):
    """Length of the difference of the two gradients, relative to that of the one in float32."""
    torch.manual_seed(0)
    layer = make()
    x = torch.randn(2, layer.in_channels, 24, width).to(memory_format=torch.channels_last)
    out = torch.randn(2, layer.out_channels, 24, width)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        layer.zero_grad()
        layer.to(dtype)(x.to(dtype)).backward(out.to(dtype))
        found.append(layer.weight.grad.float())
    return float((found[0] - found[1]).norm() / found[0].norm())


wrong = set()
for name, make in LAYERS.items():
    seen = [error(make, width) for width in (28, 29)]
    print(f"torch {torch.__version__}, {name}: relative error at 28 and 29 columns: {seen[0]:.3f} and {seen[1]:.3f}")
    wrong |= {(name, width) for width, value in zip((28, 29), seen) if not value <= 0.1}
expected = {"depthwise, dilation 2", "24 inputs, dilation 2", "transposed to 24, dilation 2"}
raise SystemExit(0 if wrong == {(name, 29) for name in expected} else "this has changed")
PY
