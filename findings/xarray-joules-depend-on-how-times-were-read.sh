#!/usr/bin/env bash
# xarray 2026.9.0 with pandas 3.1.1: `DataArray.integrate("time")` over a log of watts is taken in the unit in which the times happen to be
# stored, unless `datetime_unit` is given: 5 W for ten seconds are 50 (joules) with times from numpy, which are seconds, 50 thousand or
# million or thousand million with others. Since its release 3 pandas keeps the unit that fits what it was given, mostly
# microseconds, where it had nanoseconds for everything, so that a factor of 1e-9 that was once put behind the integral is wrong by a
# thousand now, after an upgrade or for another file. `cumulative_integrate` and `differentiate` (watts of a counter of joules) do the
# same. The result has no unit and no attribute that tells.
#
#   50 J: times of numpy in seconds 50, of pandas.date_range 50000000, of seconds since 1970 in ms 50000, in ns 50000000000; with
#   datetime_unit="s" 50 in all of them
#
# Answered by dance_ondevice/energy/tracks.py, which integrates over seconds of the monotonic clock. Needs python3 and a network.
# Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'xarray==2026.9.0' 'pandas==3.1.1' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
import pandas as pd
import xarray as xr

START = "2026-01-01T00:00:00"
seconds = np.arange(START, "2026-01-01T00:00:11", dtype="datetime64[s]")
times = {
    "numpy's seconds": seconds,
    "date_range": pd.date_range(START, periods=11, freq="1s"),
    "texts": pd.to_datetime([str(moment) for moment in seconds]),
    "in ms": seconds.astype("datetime64[ms]"),
    "in ns": seconds.astype("datetime64[ns]"),
}
joules, said, watts = {}, {}, {}
for name, moments in times.items():
    log = xr.DataArray(np.full(11, 5.0), coords={"time": moments}, dims="time")
    joules[name] = float(log.integrate("time"))
    assert float(log.cumulative_integrate("time")[-1]) == joules[name]
    said[name] = float(log.integrate("time", datetime_unit="s"))
    counter = xr.DataArray(5.0 * np.arange(11), coords={"time": moments}, dims="time")
    watts[name] = float(counter.differentiate("time")[5])
print(f"xarray {version('xarray')}, pandas {version('pandas')}: 5 W for 10 s: joules {joules}; with datetime_unit='s' {set(said.values())}; "
      f"watts of a counter that gains 5 J a second {watts}")
expected = {"numpy's seconds": 50.0, "date_range": 5e7, "texts": 5e7, "in ms": 5e4, "in ns": 5e10}
good = joules == expected and set(said.values()) == {50.0} and all(np.isclose(watts[name] * joules[name], 250) for name in times)
raise SystemExit(0 if good else "this has changed")
PY
