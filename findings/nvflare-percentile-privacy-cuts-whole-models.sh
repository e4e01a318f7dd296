#!/usr/bin/env bash
# nvflare 2.9.0: `PercentilePrivacy`, a filter that a board puts in front of what it sends, cuts changes of weights to `gamma` (0.01) for each
# step; its documentation speaks of nothing but differences ("weight diff"). By default it takes whole weights as well (DataKind.WEIGHTS, which a
# client sends as "FULL", the default of the client API) and treats them as if they were changes: a model arrives at the server with each
# of its weights cut to 0.01, the small ones 0. Running variances are cut with either. How badly depends on NUM_STEPS_CURRENT_ROUND, which
# many a client leaves out (then 1): with 500 steps nothing but the variance is seen to change. `data_kinds` can leave WEIGHTS out.
#
#   weights 0.5 -0.3 0.004 1.2: sent 0.01 -0.01 0 0.01; with 500 steps 0.5 -0.3 0 1.2; variance 50: sent 0.01, with 500 steps 5
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'nvflare==2.9.0' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import logging

logging.disable(logging.CRITICAL)

from importlib.metadata import version

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.filters.percentile_privacy import PercentilePrivacy


def sent(kind, meta, **how):
    model = {"weight": np.float32([0.5, -0.3, 0.004, 1.2]), "running_var": np.float32([50.0, 3.0])}
    data = from_shareable(PercentilePrivacy(**how).process(DXO(kind, model, meta).to_shareable(), FLContext())).data
    return [round(float(value), 4) for name in model for value in data[name]]


steps = {MetaKey.NUM_STEPS_CURRENT_ROUND: 500}
seen = {
    "whole model": sent(DataKind.WEIGHTS, {}),
    "whole model, 500 steps": sent(DataKind.WEIGHTS, steps),
    "changes": sent(DataKind.WEIGHT_DIFF, {}),
    "whole model, for changes only": sent(DataKind.WEIGHTS, {}, data_kinds=[DataKind.WEIGHT_DIFF]),
}
print(f"nvflare {version('nvflare')}, of weights 0.5 -0.3 0.004 1.2 and variances 50 3:", seen)
cut = [0.01, -0.01, 0.0, 0.01, 0.01, 0.01]
expected = {
    "whole model": cut,
    "whole model, 500 steps": [0.5, -0.3, 0.0, 1.2, 5.0, 3.0],
    "changes": cut,
    "whole model, for changes only": [0.5, -0.3, 0.004, 1.2, 50.0, 3.0],
}
raise SystemExit(0 if seen == expected else "this has changed")
PY
