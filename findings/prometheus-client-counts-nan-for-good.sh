#!/usr/bin/env bash
# prometheus_client 0.26.0: a counter refuses to go down, by a ValueError, and takes NaN: the guard asks whether the amount is below 0.
# From then on it is NaN, whatever is added, until the process ends; comparisons with NaN are false, so no alert of `rate()` fires.
# A histogram takes one NaN into its sum for good and into no bucket, so that its count does not show that it was there.
#
#   counter 5, then -1: ValueError; NaN, 3: nan; histogram of 0.5, NaN, 1.5: count 2, le="+Inf" 2, sum nan
#
# Answered by dance_ondevice/energy/tracks.py (`_possible`) and daemon/energy/ledger.py (`_amount`): what is not finite is
# no reading, and never reaches a counter. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'prometheus_client==0.26.0'
"$folder/venv/bin/python" - <<'PY'
import math
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram

registry = CollectorRegistry()
counter = Counter("joules", "Joules.", registry=registry)
histogram = Histogram("watts", "Watts.", buckets=[1, 2], registry=registry)
counter.inc(5)
try:
    counter.inc(-1)
    said = "nothing"
except ValueError:
    said = "ValueError"
counter.inc(math.nan)
counter.inc(3)
for value in (0.5, math.nan, 1.5):
    histogram.observe(value)
total = registry.get_sample_value("joules_total")
count, top = (registry.get_sample_value(name, labels) for name, labels in (("watts_count", {}), ("watts_bucket", {"le": "+Inf"})))
summed = registry.get_sample_value("watts_sum")
print(f"prometheus_client {version('prometheus_client')}: counter 5, then -1: {said}; NaN, 3: {total}; histogram of 0.5, NaN, 1.5: "
      f'count {count:g}, le="+Inf" {top:g}, sum {summed}')
good = said == "ValueError" and math.isnan(total) and math.isnan(summed) and (count, top) == (2, 2)
raise SystemExit(0 if good else "this has changed")
PY
