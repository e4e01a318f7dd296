#!/usr/bin/env bash
# frouros 0.9.0: `PSI` (population stability index, "changed" above 0.2) puts the smallest float there is, 2e-308, for
# the share of an empty bin, where others put 0.0001 or add one half. Its logarithm is -708: a single value among 1000 that lies in a
# bin which the other sample leaves empty adds 0.7. Bins reach from the least to the largest value of both samples, so that the outermost
# are nearly empty and such values are usual: every third pair of samples of one and the same distribution is "changed". The very
# same bins with 0.0001 in place of nothing say so of none.
#
#   200 pairs of 1000 values of one normal distribution: above 0.2 in 67, at most 4.2; with 0.0001 in 0, at most 0.1
#
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'frouros==0.9.0' 'numpy==2.1.3' 'scipy==1.14.1'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
from frouros.detectors.data_drift import PSI


def index(before, after):
    detector = PSI()
    detector.fit(X=before)
    return float(detector.compare(X=after)[0].distance)


def usual(before, after):
    edges = np.histogram_bin_edges(np.concatenate([before, after]), 10)
    old, new = (np.maximum(np.histogram(values, edges)[0] / values.size, 0.0001) for values in (before, after))
    return float(((new - old) * np.log(new / old)).sum())


values = np.random.default_rng(0)
pairs = [(values.normal(size=1000), values.normal(size=1000)) for _ in range(200)]
same, others = (np.array([how(*pair) for pair in pairs]) for how in (index, usual))
print(f"frouros {version('frouros')}, 200 pairs of 1000 values of one normal distribution: above 0.2 in {int((same > 0.2).sum())}, at most "
      f"{same.max():.1f}; with 0.0001 in {int((others > 0.2).sum())}, at most {others.max():.1f}")
good = (same > 0.2).sum() > 50 and same.max() > 2 and (others > 0.2).sum() == 0
raise SystemExit(0 if good else "this has changed")
PY
