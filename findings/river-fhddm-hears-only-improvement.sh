#!/usr/bin/env bash
# river 0.26.1: the documentation of `drift.binary.FHDDM`, like that of its neighbours, asks for a stream in which 1 is an error. Fed so, it
# never says a word while a model gets worse and raises its alarm when it gets better: it keeps the largest mean and waits for a
# fall, as the paper does, where 1 is a right answer. DDM and HDDMA, put in its place with the same stream, alarm at errors.
#
#   errors from 10 % to 40 %, 1 for an error: FHDDM none, DDM alarm, HDDMA alarm; from 40 % to 10 %: FHDDM alarm;
#   from 10 % to 40 %, 1 for a right answer: FHDDM alarm
#
# Answered by policies/stream/drift.py, whose two detectors say in which direction a signal went (`Signal.falls_only`).
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'river==0.26.1' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
from river.drift.binary import DDM, FHDDM, HDDMA

values = np.random.default_rng(0)
worse = np.concatenate([values.random(1000) < 0.1, values.random(1000) < 0.4])
better = np.concatenate([values.random(1000) < 0.4, values.random(1000) < 0.1])


def alarm(kind, stream):
    """Number of the first value, from the change on, at which a detector raises its alarm."""
    detector = kind()
    for number, value in enumerate(stream):
        detector.update(bool(value))
        if detector.drift_detected and number >= 1000:
            return number - 1000
    return None


seen = {}
for name, stream in (("errors, worse", worse), ("errors, better", better), ("right answers, worse", ~worse)):
    seen[name] = {kind.__name__: alarm(kind, stream) for kind in (FHDDM, DDM, HDDMA)}
    print(f"river {version('river')}: 1 for {name}: values until the alarm: {seen[name]}")
asked = "1 indicates error" in " ".join((FHDDM.__doc__ or "").split())
print(f"its documentation asks for 1 where there was an error: {asked}")
by_error = seen["errors, worse"]
good = (
    by_error["FHDDM"] is None
    and None not in (by_error["DDM"], by_error["HDDMA"])
    and None not in (seen["errors, better"]["FHDDM"], seen["right answers, worse"]["FHDDM"])
)
raise SystemExit(0 if good and asked else "this has changed")
PY
