#!/usr/bin/env bash
# flwr 1.42.0: what is no fraction becomes 0 when `FedAvg` takes its average: each array is multiplied by a board's share of the examples,
# and the share is made an integer before, where the array holds integers. Counters of batch normalisation, int8 weights and counts of
# pixels come back as 0 from two boards that agree, as int8 and int64 as they were sent, so that a model with them loads. With
# `inplace=False` the product with the number of examples overflows instead. One board alone is right, and so is `FedMedian`,
# and the strategies of `flwr.serverapp`, by messages, which return float64. No warning, no error.
#
#   two boards that both say int64 100, int8 50, float32 0.5 after 10 examples each: FedAvg 0, 0, 0.5; inplace=False 100, -1.2, 0.5;
#   FedMedian 100, 50, 0.5; by messages 100, 50, 0.5
#
# Answered by dance_ondevice/fleet/root.py (`travels`): counters never leave a board, and averaging.py adds float32.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'flwr==1.42.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
import logging
from importlib.metadata import version

import numpy as np
from flwr.common import Array, ArrayRecord, Code, FitRes, MetricRecord, RecordDict, Status
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.strategy import FedAvg, FedMedian
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

logging.disable(logging.CRITICAL)
arrays = [np.array([100], np.int64), np.array([50], np.int8), np.array([0.5], np.float32)]
answer = FitRes(Status(Code.OK, ""), ndarrays_to_parameters(arrays), 10, {})
seen = {}
for name, strategy in {"FedAvg": FedAvg(), "inplace=False": FedAvg(inplace=False), "FedMedian": FedMedian()}.items():
    parameters, _ = strategy.aggregate_fit(1, [(None, answer), (None, answer)], [])
    seen[name] = [round(float(array[0]), 1) for array in parameters_to_ndarrays(parameters)]
named = ArrayRecord({str(number): Array(array) for number, array in enumerate(arrays)})
record = RecordDict({"arrays": named, "metrics": MetricRecord({"num-examples": 10})})
seen["by messages"] = [float(array.numpy()[0]) for array in aggregate_arrayrecords([record, record], "num-examples").values()]
print(f"flwr {version('flwr')}: two boards that both say int64 100, int8 50, float32 0.5: {seen}")
right = [100, 50, 0.5]
good = seen == {"FedAvg": [0, 0, 0.5], "inplace=False": [100, -1.2, 0.5], "FedMedian": right, "by messages": right}
raise SystemExit(0 if good else "this has changed")
PY
