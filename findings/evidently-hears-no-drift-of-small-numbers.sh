#!/usr/bin/env bash
# evidently 0.7.23: with more than 1000 reference values the default test of a column of numbers is a Wasserstein distance "normed by std of
# reference data", drift from 0.1 on, so that units would not matter. The deviation is taken as 0.001 where it is less, which is
# not in its docstring: what is measured in small numbers never drifts. codecarbon and meters tell kWh; 10 J are 0.0000028 of them, and
# an inference that costs ten times as much is "no drift". The same values in joules are one. With 1000 values or fewer the
# default is another test (Kolmogorov-Smirnov), without a unit, and finds both.
#
#   costs ten times as much, 2000 values: in joules 89.99 drift, in kWh 0.03 no drift; 500 values: in kWh drift
#
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'evidently==0.7.23' 'pandas==2.3.3'
export DO_NOT_TRACK=1
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
import pandas as pd
from evidently import Report
from evidently.metrics import ValueDrift

JOULES_PER_KWH = 3.6e6


def drift(count, unit):
    values = np.random.default_rng(0)
    before = pd.DataFrame({"energy": values.normal(10.0, 1.0, count) / unit})
    after = pd.DataFrame({"energy": values.normal(100.0, 10.0, count) / unit})
    told = Report([ValueDrift(column="energy")]).run(after, before).dict()["metrics"][0]
    return float(told["value"])


print("evidently", version("evidently"))
joules, kwh, few = drift(2000, 1.0), drift(2000, JOULES_PER_KWH), drift(500, JOULES_PER_KWH)
print(f"2000 values: in joules {joules:.2f}, in kWh {kwh:.2f}, drift from 0.1 on; 500 in kWh: p {few:.3g}, drift below 0.05")
raise SystemExit(0 if joules > 50 and 0 < kwh < 0.1 and few < 0.05 else "this has changed")
PY
