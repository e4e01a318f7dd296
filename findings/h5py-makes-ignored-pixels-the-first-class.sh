#!/usr/bin/env bash
# h5py 3.16.0: an array that is written to a data set of another type is converted by HDF5, which takes what does not fit to the nearest number
# that does, without a word. A mask as most programs hold it, int64 with -1 for "no class", written to uint8: every -1 is 0, the first class
# (road, in most lists), where numpy's assignment, which the syntax is that of, and zarr make 255 of it, by luck what segmentation ignores.
# Instance 256 and all after it are 255, "ignored". NaN is 0. A single number out of range raises, so a test with one finds a guard.
#
#   0 18 255 256 -1 to uint8: h5py 0 18 255 255 0; numpy and zarr 0 18 255 0 255; dataset[0] = -1: OverflowError
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'h5py==3.16.0' 'zarr==3.1.6' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import h5py
import numpy as np
import zarr

mask = np.array([0, 18, 255, 256, -1])
with h5py.File("masks.h5", "w") as file:
    assigned = file.create_dataset("assigned", mask.shape, np.uint8)
    assigned[:] = mask
    created = file.create_dataset("created", data=mask, dtype=np.uint8)
    nothing = file.create_dataset("nothing", data=np.array([np.nan, 1.0]), dtype=np.uint8)
    seen = {"h5py": assigned[:].tolist(), "h5py, created": created[:].tolist(), "h5py, NaN 1.0": nothing[:].tolist()}
    try:
        assigned[0] = -1
        seen["one number"] = "written"
    except OverflowError:
        seen["one number"] = "OverflowError"
plain, chunked = np.zeros(mask.shape, np.uint8), zarr.create_array(store={}, shape=mask.shape, chunks=mask.shape, dtype="uint8")
plain[:] = chunked[:] = mask
seen |= {"numpy": plain.tolist(), "zarr": chunked[:].tolist()}
print(f"h5py {version('h5py')}, zarr {version('zarr')}: {mask.tolist()} as uint8:", seen)
kept, wrapped = [0, 18, 255, 255, 0], [0, 18, 255, 0, 255]
expected = {"h5py": kept, "h5py, created": kept, "h5py, NaN 1.0": [0, 1], "one number": "OverflowError", "numpy": wrapped, "zarr": wrapped}
raise SystemExit(0 if seen == expected else "this has changed")
PY
