#!/usr/bin/env bash
# safetensors 0.8.0: `safetensors.numpy` writes bfloat16 and float8 arrays (ml_dtypes), and `load` of the very same bytes raises
# KeyError: 'BF16', which is no SafetensorError. `load_file` of the same file raises a TypeError, or reads it, depending on whether
# anything in the process has imported ml_dtypes, and an AttributeError for float8. torch writes such files of any model in
# bfloat16; a program that catches SafetensorError around a file from elsewhere, as documented, ends at them.
#
#   bfloat16: save writes, load KeyError, load_file TypeError, with ml_dtypes imported bfloat16
#   float8_e4m3fn: save writes, load KeyError, load_file AttributeError, with ml_dtypes imported AttributeError
#
# Answered by dance_ondevice/fleet/offers.py, releases.py and versions.py and by conditions/arrays.py, which raise their own error for
# all of them. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'safetensors==0.8.0' 'ml_dtypes==0.6.0' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import subprocess
import sys
from importlib.metadata import version

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

READ = """
import sys
from safetensors import SafetensorError
from safetensors.numpy import load, load_file
name, how = sys.argv[1:]
if how == "import":
    import ml_dtypes
try:
    found = load(open(name, "rb").read()) if how == "load" else load_file(name)
    print(found["a"].dtype)
except SafetensorError:
    print("SafetensorError")
except Exception as error:
    print(type(error).__name__)
"""

seen = {}
for kind in ("bfloat16", "float8_e4m3fn"):
    save_file({"a": np.ones(4, getattr(ml_dtypes, kind))}, kind)
    # A process each, since what was imported counts.
    runs = [subprocess.run([sys.executable, "-c", READ, kind, how], capture_output=True, text=True) for how in ("load", "file", "import")]
    seen[kind] = [run.stdout.strip() for run in runs]
    load, file, imported = seen[kind]
    print(f"safetensors {version('safetensors')}: {kind}: save writes, load {load}, load_file {file}, with ml_dtypes imported {imported}")
expected = {
    "bfloat16": ["KeyError", "TypeError", "bfloat16"],
    "float8_e4m3fn": ["KeyError", "AttributeError", "AttributeError"],
}
raise SystemExit(0 if seen == expected else "this has changed")
PY
