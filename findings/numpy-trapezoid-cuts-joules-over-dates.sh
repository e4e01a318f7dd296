#!/usr/bin/env bash
# numpy 2.2.6: `np.trapezoid(watts, times)`, which makes joules of a log of watts, takes times as datetime64 too, and the area it returns is
# then a timedelta64: each step's watts times seconds is cut to a whole number of the times' unit before it is summed. Times read from
# "2026-01-01T00:00:00" are in seconds, so that a board that draws 0.4 W has spent nothing after an hour, and one of 1.9 W lacks nearly half.
# No error and no warning; with milliseconds too little is lost to be seen here. Times in seconds as floats are right.
#
#   an hour, a reading a second: 0.4 W: 0 of 1440 J; 1.9 W: 3600 of 6840 J; with times in ms 1440 and 6840 J
#
# Answered by dance_ondevice/energy/tracks.py, which integrates over seconds as floats. Needs python3 and a network. Ends with status 1 if it
# behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
import numpy as np

whole = {}
dates = np.datetime64("2026-01-01T00:00:00") + np.arange(3601)
print(f"numpy {np.__version__}: an hour of readings, {dates.dtype}, {dates[0]} to {dates[-1]}")
for watts in (0.4, 1.9):
    drawn = np.full(3601, watts)
    whole[watts] = (
        int(np.trapezoid(drawn, dates) / np.timedelta64(1, "s")),
        round(np.trapezoid(drawn, dates.astype("datetime64[ms]")) / np.timedelta64(1, "s")),
        round(float(np.trapezoid(drawn, np.arange(3601.0)))),
    )
    print("{} W: over seconds {} J, over milliseconds {} J, over floats {} J".format(watts, *whole[watts]))
raise SystemExit(0 if whole == {0.4: (0, 1440, 1440), 1.9: (3600, 6840, 6840)} else "this has changed")
PY
