#!/usr/bin/env bash
# pynmea2 1.19.0: a receiver without a fix leaves the fields of its place empty. `lat` and `lon` are then "", and `latitude` and `longitude`,
# which everybody reads, are 0.0, a place in the sea off Africa, as numbers like any other. A board that takes its sunrise, its time zone or
# the name of its site from it, and starts before the sky is seen, takes those of the equator. There is no None and no error; `altitude` of
# the same sentence is None, `datetime` raises a TypeError, and `is_valid` (RMC: status A, GGA: a quality above 0) tells.
#
#   GGA and RMC without a fix: latitude 0.0, longitude 0.0, is_valid False; altitude None
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pynmea2==1.19.0'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import pynmea2

seen = {}
for sentence in ("$GPGGA,,,,,,0,,,,,,,,*66", "$GPRMC,,V,,,,,,,,,,N*53"):
    read = pynmea2.parse(sentence)
    seen[read.sentence_type] = read.latitude, read.longitude, read.is_valid, getattr(read, "altitude", None)
    print(f"pynmea2 {version('pynmea2')} {sentence}: lat {read.lat!r}, latitude {read.latitude}, longitude {read.longitude}, is_valid {read.is_valid}")
raise SystemExit(0 if set(seen.values()) == {(0.0, 0.0, False, None)} else "this has changed")
PY
