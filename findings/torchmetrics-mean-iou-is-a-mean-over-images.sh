#!/usr/bin/env bash
# torchmetrics 1.9.0: `segmentation.MeanIoU` is no mIoU as the field reports it (PASCAL VOC, Cityscapes, CamVid: one confusion matrix
# over the whole set). It takes the IoU of each image and their mean, so that four missed pixels in an image that has no others of
# the class weigh as much as a whole road; `JaccardIndex` of the same package is the usual one. Where a class is in no image,
# `per_class=True` gives -1 for it, which a `.mean()` over the classes takes for a score.
#
#   two images, 4 of 204 pixels of a class missed: MeanIoU 0.75, JaccardIndex 0.99; per class with an absent third: 1.00, 0.50, -1.00
#
# Answered by dance_ondevice/images/confusion.py: one matrix over the set, None for a class without pixels.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6' \
    'torchmetrics==1.9.0'
"$folder/venv/bin/python" - <<'PY'
import torch
import torchmetrics
from torchmetrics import JaccardIndex
from torchmetrics.segmentation import MeanIoU

label = torch.zeros(2, 20, 20, dtype=torch.long)
label[0, :, :10] = 1
label[1, :2, :2] = 1
prediction = label.clone()
prediction[1] = 0

by_image = float(MeanIoU(num_classes=2, input_format="index")(prediction, label))
by_set = float(JaccardIndex(task="multiclass", num_classes=2)(prediction, label))
by_class = MeanIoU(num_classes=3, input_format="index", per_class=True)(prediction, label).tolist()
print(f"torchmetrics {torchmetrics.__version__}: two images, 4 of 204 pixels of a class missed: MeanIoU {by_image:.2f}, JaccardIndex "
      f"{by_set:.2f}; per class with an absent third: " + ", ".join(f"{value:.2f}" for value in by_class))
good = abs(by_image - 0.7475) < 1e-4 and by_set > 0.98 and by_class[2] == -1
raise SystemExit(0 if good else "this has changed")
PY
