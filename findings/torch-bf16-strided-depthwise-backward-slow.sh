#!/usr/bin/env bash
# torch 2.13.0 on a CPU with bfloat16 instructions: the backward pass of a depthwise convolution with stride 2 takes many
# times as long in bfloat16 as in float32, where everything around it becomes quicker, so that a network of such
# convolutions can train slower in bfloat16 as a whole. It is the gradient of the input alone.
#
#   gradient of the input: 8.9 times the CPU time of float32
#
# Answered by dance_ondevice/training/precision.py, which keeps these convolutions in float32.
# Needs python3, a network, and a CPU with avx512_bf16; ends with status 0 without one, with 1 if it is below 3 times.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
grep -qw avx512_bf16 /proc/cpuinfo || { echo "skipped: this CPU has no avx512_bf16"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import time

import torch
from torch.nn.functional import conv2d

torch.set_num_threads(1)


def seconds(dtype):
    """The shortest CPU time of ten gradients of the input."""
    x = torch.randn(4, 64, 96, 96).to(dtype, memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(64, 1, 3, 3).to(dtype)
    y = conv2d(x, weight, stride=2, padding=1, groups=64)
    out, times = torch.ones_like(y), []
    for _ in range(10):
        start = time.process_time()
        torch.autograd.grad(y, x, out, retain_graph=True)
        times.append(time.process_time() - start)
    return min(times)


ratio = seconds(torch.bfloat16) / seconds(torch.float32)
print(f"torch {torch.__version__}: gradient of the input: {ratio:.1f} times the CPU time of float32")
raise SystemExit(0 if ratio > 3 else "this has changed")
PY
