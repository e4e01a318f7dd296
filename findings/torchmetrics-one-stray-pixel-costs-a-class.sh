#!/usr/bin/env bash
# torchmetrics 1.9.0: the macro means of `MulticlassAccuracy`, recall and F1 leave out a class that is in neither labels nor predictions. One
# pixel of a thousand that is predicted as a class no label shows brings the class in with a 0: of two classes, all else right, the
# mean accuracy falls from 1.00 to 0.67, where the segmentation literature takes the mean over the classes of the labels. The same
# pixel does so for the class in `ignore_index`, which is to play no part; `MulticlassJaccardIndex` of the same package leaves
# that one out, so that two metrics with one setting are means over different classes.
#
#   two classes, one pixel of 1000 predicted as an absent third: accuracy 0.67, recall 0.67, F1 0.67 (without it 1.00);
#   as the ignored class 0: accuracy 0.67, recall 0.67, F1 0.67, Jaccard 1.00
#
# Answered by dance_ondevice/images/confusion.py: means are over the classes that the labels hold.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'torchmetrics==1.9.0' \
  'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MulticlassJaccardIndex, MulticlassRecall


def means(kinds, labels, predicted, **options):
    """The macro mean of three classes by each metric."""
    return {kind.__name__: round(float(kind(3, average="macro", **options)(predicted, labels)), 2) for kind in kinds}


three = (MulticlassAccuracy, MulticlassRecall, MulticlassF1Score)
labels = torch.tensor([0] * 500 + [1] * 500)
stray = labels.clone()
stray[0] = 2
right, absent = means(three, labels, labels), means(three, labels, stray)
labels = torch.tensor([0] * 200 + [1] * 400 + [2] * 400)
stray = labels.clone()
stray[200] = 0
ignored = means((*three, MulticlassJaccardIndex), labels, stray, ignore_index=0)
print(f"torchmetrics {version('torchmetrics')}: all right {right}; one pixel of 1000 as an absent class {absent}; as the ignored one {ignored}")
good = set(right.values()) == {1} and set(absent.values()) == {0.67} and list(ignored.values()) == [0.67, 0.67, 0.67, 1]
raise SystemExit(0 if good else "this has changed")
PY
