#!/usr/bin/env bash
# scipy 1.16.3: `integrate.simpson` is the "better" rule beside `trapezoid` and takes readings at any times. Through three readings it lays a
# parabola: where one gap is more than twice its neighbour, as when a board was busy and a reading came late, one of the readings has a
# negative weight, and watts that are never below 0 become joules that are. A cumulative curve of energy (`cumulative_simpson`) falls. With
# even gaps it does neither. Nothing is said; the trapezoid rule, which weighs no reading below 0, is right.
#
#   10, 0, 0 W after 0, 1 and 4 s: simpson -6.7 J, trapezoid 5.0 J; cumulative 0, 4.6, -6.7 J
#
# Answered by dance_ondevice/energy/tracks.py: the trapezoid rule, over gaps of bounded length. Needs python3 and a network. Ends with status
# 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'scipy==1.16.3' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import scipy
from scipy.integrate import cumulative_simpson, simpson, trapezoid

watts, seconds = np.array([10.0, 0.0, 0.0]), np.array([0.0, 1.0, 4.0])
found = round(float(simpson(watts, x=seconds)), 1), round(float(trapezoid(watts, x=seconds)), 1)
curve = cumulative_simpson(watts, x=seconds, initial=0).round(1).tolist()
even = round(float(simpson(watts, x=[0.0, 1.0, 2.0])), 1)
print(f"scipy {scipy.__version__}: {watts.tolist()} W after {seconds.tolist()} s: simpson {found[0]} J, trapezoid {found[1]} J, "
      f"cumulative_simpson {curve}; with even gaps simpson {even} J")
raise SystemExit(0 if found == (-6.7, 5.0) and min(curve) < 0 < even else "this has changed")
PY
