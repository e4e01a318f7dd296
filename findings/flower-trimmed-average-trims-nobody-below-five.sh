#!/usr/bin/env bash
# flwr 1.42.0: `FedTrimmedAvg` is taken so that one board that answers nonsense (a broken camera, a model that diverged) does not carry the
# average away. It leaves out int(beta * boards) at each end, and with its default of 0.2 that is nobody as long as four boards or
# fewer answer: a plain average, and without the weights of FedAvg, under the name of a robust one. Boards that drop out of a round
# take the protection with them, unsaid. FedMedian and Krum keep the others' value from three on.
#
#   boards that say 1 and one that says 1000: of 3 trimmed 334, of 4 250.75, of 5 1; median 1, 1, 1; Krum 1, 1, 1
#
# Answered by dance_ondevice/fleet/averaging.py: a board's change that is longer than is usual is shortened, however many boards there are,
# and from `robust_from` boards on the median is taken.
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
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.strategy import FedMedian, FedTrimmedAvg, Krum

logging.disable(logging.CRITICAL)


def average(strategy, boards):
    """What a strategy makes of boards that say 1, the last of which says 1000."""
    values = [1.0] * (boards - 1) + [1000.0]
    answers = [FitRes(Status(Code.OK, ""), ndarrays_to_parameters([np.array([value])]), 10, {}) for value in values]
    parameters, _ = strategy.aggregate_fit(1, [(None, answer) for answer in answers], [])
    return round(float(parameters_to_ndarrays(parameters)[0][0]), 2)


seen = {}
for kind, options in ((FedTrimmedAvg, {}), (FedMedian, {}), (Krum, {"num_malicious_clients": 1})):
    seen[kind.__name__] = [average(kind(**options), boards) for boards in (3, 4, 5)]
print(f"flwr {version('flwr')}: boards that say 1 and one that says 1000, of 3, 4 and 5: {seen}")
good = seen == {"FedTrimmedAvg": [334, 250.75, 1], "FedMedian": [1, 1, 1], "Krum": [1, 1, 1]}
raise SystemExit(0 if good else "this has changed")
PY
