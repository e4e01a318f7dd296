#!/usr/bin/env bash
# segmentation-models-pytorch 0.6.0: in `metrics.iou_score` with `reduction="macro"` a class that is in neither the labels nor the
# prediction counts as 1.0 (`zero_division` is 1.0 by default, and its warning is off). A board sees few of a data set's classes:
# of 19 classes, 17 of which were never seen, a model that has every single pixel wrong scores 0.89, and the more classes are
# listed the better it gets. The F1, precision and recall beside it do the same; "micro" does not.
#
#   two classes, every pixel wrong: macro IoU of 2 classes 0.00, of 19 classes 0.89, micro 0.00
#
# Answered by dance_ondevice/images/confusion.py (`miou`): the mean is over the classes that the labels hold.
# Needs python3 and a network; the metrics alone are loaded, for which torch is enough. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6'
"$folder/venv/bin/pip" install --quiet --no-deps 'segmentation-models-pytorch==0.6.0'
"$folder/venv/bin/python" - <<'PY'
import importlib.util
import pathlib
from importlib.metadata import version

import torch

(package,) = importlib.util.find_spec("segmentation_models_pytorch").submodule_search_locations
spec = importlib.util.spec_from_file_location("metrics", pathlib.Path(package, "metrics", "functional.py"))
metrics = importlib.util.module_from_spec(spec)
spec.loader.exec_module(metrics)

label = torch.zeros(1, 20, 20, dtype=torch.long)
label[:, :, 10:] = 1
wrong = 1 - label


def iou(classes, reduction):
    counts = metrics.get_stats(wrong, label, mode="multiclass", num_classes=classes)
    return float(metrics.iou_score(*counts, reduction=reduction))


few, many, micro = iou(2, "macro"), iou(19, "macro"), iou(19, "micro")
print(f"segmentation-models-pytorch {version('segmentation-models-pytorch')}: two classes, every pixel wrong: macro IoU of 2 "
      f"classes {few:.2f}, of 19 classes {many:.2f}, micro {micro:.2f}")
raise SystemExit(0 if (few, micro) == (0, 0) and abs(many - 17 / 19) < 1e-6 else "this has changed")
PY
