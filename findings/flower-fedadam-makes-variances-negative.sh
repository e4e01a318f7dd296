#!/usr/bin/env bash
# flwr 1.42.0: `FedAdam` and `FedAdagrad` step on every array of the model, the running variances of batch normalisation too, by
# about `eta` whatever their size is. All boards say 0.01, the server holds 0.02, and the next version says -0.05: evaluation takes
# its square root and the model answers NaN, while training, which uses the batch's own variance, goes on as if nothing was wrong.
# FedAvg and FedAvgM, which take averages, keep 0.01. FedAdam also makes float64 of float32, twice the bytes for each board. Those
# of `flwr.serverapp.strategy`, by messages, do the same.
#
#   variance after one round: FedAvg 0.010 float32, FedAvgM 0.010 float32, FedAdam -0.054 float64, FedAdagrad -0.080 float32
#
# Answered by dance_ondevice/fleet/root.py (`travels`): statistics never leave a board, and each estimates its own again.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'flwr==1.42.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import logging

logging.disable(logging.WARNING)

from importlib.metadata import version

import numpy as np
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM


def reply(arrays):
    return None, FitRes(Status(Code.OK, ""), ndarrays_to_parameters(arrays), 100, {})


def after_one_round(strategy):
    """The running variance of a layer, of which two boards say the same."""
    weight, held, found = np.float32([1.0]), np.float32([0.02]), np.float32([0.01])
    server = strategy(initial_parameters=ndarrays_to_parameters([weight, held]))
    parameters, _ = server.aggregate_fit(1, [reply([0.99 * weight, found])] * 2, [])
    (_, variance) = parameters_to_ndarrays(parameters)
    return float(variance[0]), str(variance.dtype)


seen = {each.__name__: after_one_round(each) for each in (FedAvg, FedAvgM, FedAdam, FedAdagrad)}
told = ", ".join(f"{name} {variance:.3f} {kind}" for name, (variance, kind) in seen.items())
print(f"flwr {version('flwr')}: variance after one round: {told}")
good = (
    all(abs(seen[name][0] - 0.01) < 1e-6 for name in ("FedAvg", "FedAvgM"))
    and all(seen[name][0] < 0 for name in ("FedAdam", "FedAdagrad"))
    and seen["FedAdam"][1] == "float64"
)
raise SystemExit(0 if good else "this has changed")
PY
