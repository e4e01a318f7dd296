#!/usr/bin/env bash
# river 0.26.1, frouros 0.9.0: ADWIN has one setting, `delta`, a probability, and adapts its window; one takes it to be free of scale. It
# is not: its bound has a term that stays when the variance is small, for values between 0 and 1, and nothing says so or checks it.
# The same stream in other units is another answer: a mean that goes from 0.5 to 1.0 is found after 55 values, a tenth of it
# after 215, a hundredth of it (a loss, an IoU in its second decimal, joules in kJ) never. Times ten it comes early.
#
#   0.5 to 1.0 (uniform, of width 1), 1000 values each, alarm after: times 1 55, times 0.1 215, times 0.01 never, times 10 23;
#   frouros: times 1 87, times 0.01 never
#
# Answered by policies/stream/drift.py: each signal has its least and largest value (`Signal.low`, `high`) and a unit.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/river"
"$folder/river/bin/pip" install --quiet 'river==0.26.1' 'numpy==2.2.6'
python3 -m venv "$folder/frouros"
"$folder/frouros/bin/pip" install --quiet 'frouros==0.9.0' 'numpy==2.1.3'
cat > "$folder/seen.py" <<'PY'
import sys
from importlib.metadata import version

import numpy as np

values = np.random.default_rng(0)
stream = np.concatenate([values.uniform(0, 1, 1000), values.uniform(0.5, 1.5, 1000)])


def river_alarm(scale):
    from river import drift

    detector = drift.ADWIN()
    for number, value in enumerate(scale * stream):
        detector.update(float(value))
        if detector.drift_detected:
            return number - 1000
    return None


def frouros_alarm(scale):
    from frouros.detectors.concept_drift import ADWIN, ADWINConfig

    detector = ADWIN(config=ADWINConfig())
    for number, value in enumerate(scale * stream):
        detector.update(value=float(value))
        if detector.status["drift"]:
            return number - 1000
    return None


scales, name = (10, 1, 0.1, 0.01), sys.argv[1]
alarms = [{"river": river_alarm, "frouros": frouros_alarm}[name](scale) for scale in scales]
told = ", ".join(f"times {scale} {alarm}" for scale, alarm in zip(scales, alarms, strict=True))
print(f"{name} {version(name)}: values from the change to the alarm: {told}")
good = 0 < alarms[0] <= alarms[1] < (alarms[2] or 1000) and alarms[3] is None
raise SystemExit(0 if good else "this has changed")
PY
"$folder/river/bin/python" -W ignore "$folder/seen.py" river
"$folder/frouros/bin/python" -W ignore "$folder/seen.py" frouros
