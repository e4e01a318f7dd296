#!/usr/bin/env bash
# prometheus_client 0.26.0: since metric names may hold any letter, a registry takes "camera-frames", "camera.frames" and "camera_frames", which
# older releases refused or which its guard against a second metric of one name would stop. Where the scraper asks for the plain text
# format, as curl, most agents and tests do, all three are written as `camera_frames`: one series three times in one answer, with
# three values, with HELP and TYPE lines between. A leading digit becomes "_", so that "2nd" and "_nd" meet as well.
#
#   registered 3 of 3, lines of the series camera_frames in the text format: 3, with the values 1, 2, 3; a second "camera_frames":
#   ValueError
#
# Answered by tests/docs/test_docs_metrics.py, which reads what the service exports; its names are constants.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'prometheus_client==0.26.0'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import choose_encoder

registry = CollectorRegistry()
for value, name in enumerate(("camera-frames", "camera.frames", "camera_frames"), start=1):
    Gauge(name, "Frames of a camera.", registry=registry).set(value)
try:
    Gauge("camera_frames", "Frames of a camera.", registry=registry)
    again = "taken"
except ValueError:
    again = "ValueError"
encode, content_type = choose_encoder("text/plain;version=0.0.4")
lines = encode(registry).decode().splitlines()
series = [line for line in lines if not line.startswith("#")]
print(f"prometheus_client {version('prometheus_client')}, {content_type}: {series}; the same name a second time: {again}")
good = series == ["camera_frames 1.0", "camera_frames 2.0", "camera_frames 3.0"] and again == "ValueError"
raise SystemExit(0 if good else "this has changed")
PY
