#!/usr/bin/env bash
# datasets 5.2.0 (Hugging Face): a column of int64 is read as int64, until one value of it is missing. Then `with_format("numpy")` gives the
# rows that are read together as float32, since a missing value becomes NaN and NaN a float, and floats are taken as float32 there. Numbers above
# 16,777,216 meet: times in nanoseconds are off by up to a minute and a frame's id is its neighbour's. It depends on which rows are read
# at once: one by one, or a batch without the gap, they are exact, so a test on the first rows passes. "pandas" makes float64 of them, in
# which frames are exact and times nearly so, "arrow" leaves them as they are. No warning.
#
#   times in ns: four rows of which one lacks its time: off by up to 50 s, as float32; the first two rows: exact, int64; pandas 0.0 s
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'datasets==5.2.0' 'numpy==2.2.6' 'pandas==2.3.3'
cd "$folder"
HF_HOME=$folder HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - <<'PY'
import datasets
import numpy as np

TIMES = [1_764_547_200_123_456_789 + step * 20_000_000_000 for step in range(4)]
rows = datasets.Dataset.from_dict({"time": [*TIMES[:3], None], "frame": [33_554_431, 33_554_433, 33_554_435, None]})


def off(read):
    """By how many seconds the times that are there are off, at most, and the type that they have."""
    return max(abs(int(value) - true) for value, true in zip(read, TIMES) if not np.isnan(value)) / 1e9, str(np.asarray(read).dtype)


numpy_rows = rows.with_format("numpy")
seen = {"four rows": off(numpy_rows[:4]["time"]), "first two": off(numpy_rows[:2]["time"]), "pandas": off(rows.with_format("pandas")[:]["time"])}
frames = numpy_rows[:]["frame"].tolist()[:3]
exact = rows.with_format("arrow")[:]["time"].to_pylist()[:3] == TIMES[:3]
print(f"datasets {datasets.__version__}: times off by seconds, type: {seen}; frames {frames}; arrow exact: {exact}")
good = (
    seen["four rows"][0] > 10
    and seen["four rows"][1] == "float32"
    and seen["first two"] == (0.0, "int64")
    and seen["pandas"][0] < 1e-3
    and frames == [33554432.0, 33554432.0, 33554436.0]
    and exact
)
raise SystemExit(0 if good else "this has changed")
PY
