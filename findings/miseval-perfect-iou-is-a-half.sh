#!/usr/bin/env bash
# miseval 1.3.0: `evaluate(truth, prediction, metric=..., multi_class=True, n_classes=n)` gives a score for each class.
# For one that is in neither mask, "DSC" (Dice) says 1, as its source explains, and "IoU" 0, as nothing does: a prediction that has every
# single pixel right has a mean Dice of 1 and for its mean IoU the share of classes that the picture happens to show. Both are the same measure, one from the other, for every
# class that is there. Kappa and Matthews' coefficient say 0 as IoU does. A model looks worse the more classes its list has.
#
#   a perfect mask of two of four classes: IoU 1 1 0 0, mean 0.5; Dice 1 1 1 1
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'miseval==1.3.0' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
from miseval import evaluate

truth = np.zeros((10, 10), int)
truth[:, 5:] = 1
worse = truth.copy()
worse[:, 4] = 1
seen = {name: evaluate(truth, truth, metric=name, multi_class=True, n_classes=4).tolist() for name in ("IoU", "DSC", "KAP", "MCC")}
iou, dice = (evaluate(truth, worse, metric=name, multi_class=True, n_classes=2) for name in ("IoU", "DSC"))
same = bool(np.allclose(dice, 2 * iou / (1 + iou)))
print(f"miseval {version('miseval')}, a perfect mask of two of four classes: {seen}; mean IoU {np.mean(seen['IoU'])}; "
      f"where classes are there Dice is 2 IoU / (1 + IoU): {same}")
half = [1.0, 1.0, 0.0, 0.0]
raise SystemExit(0 if same and seen == {"IoU": half, "DSC": [1.0] * 4, "KAP": half, "MCC": half} else "this has changed")
PY
