#!/usr/bin/env bash
# nvflare 2.9.0: the sum of weighted contributions is kept in the type that the first one came in, and divided at the end. With
# float16, taken to halve what boards send, a value times a client's number of steps must stay below 65504: running statistics
# of 200 and 400 steps are infinite in the average of two clients that agree, and in every board's next model. The same in
# float32 is right, smaller values only lose digits. numpy warns on the server's standard error; the round counts as done.
#
#   two clients that say 200 after 400 and 600 steps: float32 200, float16 inf
#
# Answered by dance_ondevice/fleet/offers.py and averaging.py: 16 bits travel, float32 is averaged. Needs python3 and a network.
# Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'nvflare==2.9.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
import logging

logging.disable(logging.ERROR)  # it misses the server around it

from importlib.metadata import version

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.aggregators.dxo_aggregator import DXOAggregator
from nvflare.app_common.app_constant import AppConstants


def averaged(kind):
    """What the server makes of two clients that say the same."""
    server, context = DXOAggregator(expected_data_kind=DataKind.WEIGHTS), FLContext()
    context.set_prop(AppConstants.CURRENT_ROUND, 0)
    for client, steps in (("one", 400), ("other", 600)):
        update = DXO(DataKind.WEIGHTS, {"running_var": np.array([200.0], kind)}, {MetaKey.NUM_STEPS_CURRENT_ROUND: steps})
        assert server.accept(update, contributor_name=client, contribution_round=0, fl_ctx=context)
    return float(server.aggregate(context).data["running_var"][0])


seen = {kind: averaged(kind) for kind in ("float32", "float16")}
print(f"nvflare {version('nvflare')}: two clients that say 200 after 400 and 600 steps: "
      + ", ".join(f"{kind} {value:g}" for kind, value in seen.items()))
raise SystemExit(0 if abs(seen["float32"] - 200) < 0.01 and np.isinf(seen["float16"]) else "this has changed")
PY
