#!/bin/sh
# Checks what only a machine with an NVIDIA GPU can show, in under eight minutes:
#
#   tests/device/check.sh [PYTHON]
#
# PYTHON is an interpreter with dance-ondevice, a torch with CUDA and, for masks, an onnxruntime with CUDA; by
# default that of .venv. Exit status: 0 all passed, 1 something failed, 3 no GPU, so that nothing was checked.
set -eu
cd "$(dirname "$0")/../.."
python=${1:-.venv/bin/python}
export OMP_WAIT_POLICY=PASSIVE
exec timeout --kill-after=10 470 "$python" tests/device/check.py
