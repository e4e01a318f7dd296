#!/usr/bin/env bash
# flwr 1.42.0: differential privacy by `DifferentialPrivacyServerSideFixedClipping` (and its client-side and adaptive sisters) cuts a board's
# update to a length, `clipping_norm`, taken over all that it sent. With BatchNorm in the network that is mostly running variances: one that
# goes from 1 to 50 is 49 long, where a round's weights together move by 0.5, so that at a norm of 1 the weights take a fiftieth of their step and
# the network learns next to nothing, while the norm, the loss on the boards and the log look as they should. The noise is added to
# variances as well: of those that are small half are below 0 afterwards, and evaluation, which takes their root, answers NaN.
#
#   norm 1, no noise, weights that moved by 0.05: 0.05 without a layer's variance among the arrays, 0.001 with one;
#   norm 1, noise multiplier 1, two boards, 1000 variances of 0.009: half are below 0
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'flwr==1.42.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
import logging

logging.disable(logging.WARNING)

from importlib.metadata import version

import numpy as np
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.client_manager import SimpleClientManager
from flwr.server.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg


def after_a_round(held, found, noise):
    """The arrays after a round in which two boards found the same; the clipping norm is 1."""
    start = ndarrays_to_parameters(held)
    inner = FedAvg(initial_parameters=start, min_fit_clients=0, min_available_clients=0, fraction_fit=0.0)
    server = DifferentialPrivacyServerSideFixedClipping(inner, noise, 1.0, 2)
    server.configure_fit(1, start, SimpleClientManager())
    replies = [(None, FitRes(Status(Code.OK, ""), ndarrays_to_parameters(found), 100, {})) for _ in range(2)]
    return parameters_to_ndarrays(server.aggregate_fit(1, replies, [])[0])


weights, moved = np.zeros(100, np.float32), np.full(100, 0.05, np.float32)
alone = float(after_a_round([weights], [moved], 0.0)[0].mean())
beside = float(after_a_round([weights, np.float32([1.0])], [moved, np.float32([50.0])], 0.0)[0].mean())
np.random.seed(0)
small = np.full(1000, 0.01, np.float32)
below = int((after_a_round([small], [0.9 * small], 1.0)[0] < 0).sum())
print(f"flwr {version('flwr')}, norm 1: weights that moved by 0.05 are at {alone:.4f}, beside a variance that went from 1 to 50 at {beside:.4f}; "
      f"of 1000 variances of 0.009 with noise below 0: {below}")
raise SystemExit(0 if abs(alone - 0.05) < 1e-4 and abs(beside - 0.05 / 49) < 1e-4 and 400 < below < 600 else "this has changed")
PY
