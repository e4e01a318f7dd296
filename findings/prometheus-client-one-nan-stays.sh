#!/usr/bin/env bash
# prometheus_client 0.26.0: `Counter.inc` refuses what is below 0, but it and `Histogram.observe` take NaN, as a loss that diverged, an
# mIoU of no pixels or 0 / 0 in numpy gives it. One is enough: a counter is NaN from then on, whatever is added, and a histogram's
# sum too, while its count and its buckets do not count the observation at all, so that they stay right beside it. A rate or a
# mean over it is NaN until the process is restarted, an alert `> x` is never true again, and nothing was raised or logged.
#
#   counter after 5, NaN, 3: nan (-1: ValueError); histogram after 1, NaN, 2: count 2, sum nan, bucket +Inf 2
#
# Answered by daemon/metrics/instruments.py, which observes durations of a clock and scores of bytes alone; what a model says is looked
# at before (a mask of scores that are not finite is counted as failed). Needs python3 and a network. Ends with status 1 if it
# behaves otherwise.
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
counter = Counter("joules", "Joules spent.", registry=registry)
for value in (5, math.nan, 3):
    counter.inc(value)
try:
    counter.inc(-1)
    below = "taken"
except ValueError:
    below = "ValueError"
histogram = Histogram("loss", "Losses of steps.", registry=registry)
for value in (1, math.nan, 2):
    histogram.observe(value)
total, count, sum_, infinite = (
    registry.get_sample_value(name, labels)
    for name, labels in (("joules_total", {}), ("loss_count", {}), ("loss_sum", {}), ("loss_bucket", {"le": "+Inf"}))
)
print(f"prometheus_client {version('prometheus_client')}: counter after 5, NaN, 3: {total}, -1: {below}; "
      f"histogram after 1, NaN, 2: count {count}, sum {sum_}, bucket +Inf {infinite}")
good = math.isnan(total) and math.isnan(sum_) and (count, infinite, below) == (2, 2, "ValueError")
raise SystemExit(0 if good else "this has changed")
PY
