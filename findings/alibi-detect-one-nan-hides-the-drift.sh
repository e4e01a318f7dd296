#!/usr/bin/env bash
# alibi-detect 0.13.0: one value of a feature that is no number, as the mIoU of a frame without labels or 0 / 0, and `KSDrift` and `CVMDrift` are
# blind to that feature for the whole batch: its p-value is NaN, NaN is not below the threshold, and "is_drift" is 0, however far the other
# 999 values have gone. With one NaN in the reference the detector is blind for good. A monitor reads the flag, which is an ordinary 0; the
# NaN in the list of p-values is all that tells.
#
#   999 of 1000 values moved by 5 standard deviations: drift 0, p-value nan; without the NaN: drift 1, p-value 0
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'alibi-detect==0.13.0' 'numpy==1.26.4' 'scipy==1.16.3' 'setuptools==80.9.0'
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - <<'PY'
import logging

logging.disable(logging.WARNING)

import alibi_detect
import numpy as np
from alibi_detect.cd import CVMDrift, KSDrift

generator = np.random.default_rng(0)
reference = generator.normal(size=(1000, 1))
moved = generator.normal(size=(1000, 1)) + 5.0
gap = moved.copy()
gap[0] = np.nan
gap_before = reference.copy()
gap_before[0] = np.nan
seen = {}
for kind in (KSDrift, CVMDrift):
    for name, before, now in (("all numbers", reference, moved), ("one NaN", reference, gap), ("one NaN before", gap_before, moved)):
        told = kind(before, p_val=0.05).predict(now)["data"]
        seen[kind.__name__, name] = int(told["is_drift"]), bool(np.isnan(told["p_val"][0]))
        print(f"alibi-detect {alibi_detect.__version__} {kind.__name__}, {name}: drift {told['is_drift']}, p-value {told['p_val'][0]}")
good = all(value == ((1, False) if name == "all numbers" else (0, True)) for (_, name), value in seen.items())
raise SystemExit(0 if good else "this has changed")
PY
