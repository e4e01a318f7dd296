#!/usr/bin/env bash
# opentelemetry-exporter-prometheus 0.66b2: the exporter writes an instrument's unit behind its name, as Prometheus wants it, and drops what
# stands in braces, which is a remark in OpenTelemetry's units. "J/{frame}", joules for each frame, is left with "J/", and comes out as
# `..._J`, the symbol that stands for joules; "J" itself is `..._joules` and "{frame}/s" `..._per_second`. So a ratio stands on a dashboard as
# an amount, and a sum over boards of it looks fair. Units that it does not know are written as they are (kWh, mW), against Prometheus's rule
# of base units, and "W" of a counter is `_watts_total`.
#
#   cost in J/{frame}: cost_J; in J: cost_joules; rate in {frame}/s: rate_per_second; in kWh: cost_kWh
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'opentelemetry-exporter-prometheus==0.66b2' 'opentelemetry-sdk==1.45.2' 'prometheus_client==0.26.0'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest

meter = MeterProvider([PrometheusMetricReader()]).get_meter("board")
for name, unit in (("first.cost", "J/{frame}"), ("second.cost", "J"), ("third.rate", "{frame}/s"), ("fourth.cost", "kWh")):
    meter.create_gauge(name, unit=unit).set(1.5)
names = [line.split("{")[0] for line in generate_latest(REGISTRY).decode().splitlines() if line.endswith(" 1.5")]
print(f"opentelemetry-exporter-prometheus {version('opentelemetry-exporter-prometheus')}: J/{{frame}}, J, {{frame}}/s, kWh: {names}")
good = sorted(names) == ["first_cost_J", "fourth_cost_kWh", "second_cost_joules", "third_rate_per_second"]
raise SystemExit(0 if good else "this has changed")
PY
