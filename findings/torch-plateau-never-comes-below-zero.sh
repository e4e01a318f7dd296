#!/usr/bin/env bash
# torch 2.13.0: `ReduceLROnPlateau` calls a value better if it is below `best * (1 - threshold)`, its default `threshold_mode="rel"`. For a
# value below 0 that line lies above the best one: standing still, and getting worse by less than the threshold, are improvements, and the
# best is moved along. A loss that is negative (-IoU, -Dice, a log-likelihood), or `mode="max"` with a score below 0, never reaches a plateau:
# the learning rate stays where it was until the end. With `threshold_mode="abs"` it falls.
#
#   learning rate after 100 equal values, patience 3: of 0.5 1e-08, of -0.5 1.0, of -0.5 in mode max 1.0, of -0.5 with abs 1e-08;
#   a loss that rises from -0.50 to -0.49 in 100 steps 1.0
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau


def rate(losses, **more):
    """The learning rate that is left after such losses, from 1.0."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    plateau = ReduceLROnPlateau(optimiser, patience=3, **more)
    for loss in losses:
        plateau.step(loss)
    return round(optimiser.param_groups[0]["lr"], 9)


seen = {
    "0.5": rate([0.5] * 100),
    "-0.5": rate([-0.5] * 100),
    "-0.5 in mode max": rate([-0.5] * 100, mode="max"),
    "-0.5 with abs": rate([-0.5] * 100, threshold_mode="abs"),
    "-0.50 rising to -0.49, threshold 0.001": rate([-0.5 + 0.0001 * step for step in range(100)], threshold=0.001),
}
print(f"torch {torch.__version__}: learning rate after 100 values: {seen}")
good = list(seen.values()) == [1e-08, 1.0, 1.0, 1e-08, 1.0]
raise SystemExit(0 if good else "this has changed")
PY
