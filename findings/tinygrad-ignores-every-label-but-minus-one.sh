#!/usr/bin/env bash
# tinygrad 0.14.0: `sparse_categorical_crossentropy(labels, ignore_index=-1)` ignores nothing: -1, its default, is the sign for "no index", so
# that asking for it aloud changes nothing. Pixels of -1 add 0 to the loss and are counted in the mean: where half is labelled, the loss and
# its gradient are half of what they are with 255 for the same pixels, and a mask with a few taps hardly teaches at all. torch, whose function
# it takes after, leaves both out. The labels themselves, -1, raise no error as they are no class.
#
#   4 pixels, 2 without a label: marked 255 and ignored 2.04, marked -1 and ignored 1.02; the two labelled ones alone 2.04
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'tinygrad==0.14.0' 'numpy==2.2.6'
DEV=PYTHON "$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
from tinygrad import Tensor

scores = np.array([[4, 0, 0], [0, 0, 4], [0, 4, 0], [0, 0, 4]], np.float32)


def loss(labels, **more):
    labels = np.array(labels, np.int32)
    return round(float(Tensor(scores[: len(labels)]).sparse_categorical_crossentropy(Tensor(labels), **more).numpy()), 2)


seen = loss([0, 1, 255, 255], ignore_index=255), loss([0, 1, -1, -1], ignore_index=-1), loss([0, 1])
print(f"tinygrad {version('tinygrad')}: marked 255 and ignored {seen[0]}, marked -1 and ignored {seen[1]}, the labelled ones alone {seen[2]}")
raise SystemExit(0 if seen == (2.04, 1.02, 2.04) else "this has changed")
PY
