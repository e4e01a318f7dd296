#!/usr/bin/env bash
# torch 2.13.0 on a CPU with bfloat16 instructions: the gradient of the weights of a dilated depthwise convolution in
# bfloat16 and channels_last is right on maps of up to 28 columns and wrong by more than its own length from 29 on. The
# same at dilation 1, the gradient of the input and the output are right at every width, so a network trains, only worse.
# Relative error against float32, at 28 and 29 columns:
#
#   dilation 1: 0.003 and 0.003, dilation 2: 0.003 and 1.171 (up to 1.3 in other runs)
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
from torch.nn.functional import conv2d

torch.set_num_threads(1)


def error(width, dilation):
    """Length of the difference of the two gradients, relative to that of the one in float32."""
    torch.manual_seed(0)
    x = torch.randn(2, 16, 24, width).to(memory_format=torch.channels_last)
    weight, out = torch.randn(16, 1, 3, 3), torch.randn(2, 16, 24, width)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        cast = weight.to(dtype, copy=True).requires_grad_()
        conv2d(x.to(dtype), cast, padding=dilation, dilation=dilation, groups=16).backward(out.to(dtype))
        found.append(cast.grad.float())
    return float((found[0] - found[1]).norm() / found[0].norm())


seen = {(width, dilation): error(width, dilation) for dilation in (1, 2) for width in (28, 29)}
told = ", ".join(f"dilation {d}: {seen[28, d]:.3f} and {seen[29, d]:.3f}" for d in (1, 2))
print(f"torch {torch.__version__}: relative error at 28 and 29 columns: {told}")
wrong = {key for key, value in seen.items() if value > 0.1}
raise SystemExit(0 if wrong == {(29, 2)} else "this has changed")
PY
