#!/usr/bin/env bash
# flwr 1.42.0: `SecAggPlusWorkflow`, by which the server sees the sum of the boards' models and none of them, makes whole numbers of the
# weights first, and cuts them to -8 ... 8 (`clipping_range=8.0`) for it. That is ample for weights and said in its documentation; the running
# mean and variance of BatchNorm are sent with them as any other array, and for features behind a convolution a variance of 50 is usual. Each
# board's mod cuts its own without a word: all boards say 50 and the next version says 8. What is normalised by it is 2.5 times as large as it
# was in training, at every layer anew. Plain FedAvg gives 50.
#
#   two boards that agree on a weight of 0.1 and variances of 4, 50 and 200: sent as 0.100, 4.00, 8.00, 8.00
#
# Answered by dance_ondevice/fleet/root.py (`STATISTICS`): what normalises a board's own images never leaves it. Needs python3 and a network.
# Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'flwr==1.42.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import inspect
from importlib.metadata import version

import numpy as np
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.server.workflow import SecAggPlusWorkflow

given = inspect.signature(SecAggPlusWorkflow).parameters
clip, levels = (given[name].default for name in ("clipping_range", "quantization_range"))
board = [np.array([0.1, 4.0, 50.0, 200.0])]
sent = np.mean([dequantize(quantize(board, clip, levels), clip, levels)[0] for _ in range(2)], axis=0)
print(f"flwr {version('flwr')}: SecAggPlusWorkflow's defaults, clipping_range {clip}, quantization_range {levels}: two boards that agree on "
      f"{board[0].tolist()}: {sent.round(3).tolist()}")
good = np.allclose(sent, [0.1, 4.0, 8.0, 8.0], atol=1e-3)
raise SystemExit(0 if good else "this has changed")
PY
