#!/usr/bin/env bash
# zeus 0.16.0 finds the rails of a Jetson by their names, asking for "cpu" first. On Orin Nano, Orin NX and Xavier NX there is one rail for
# CPU, GPU and accelerators, VDD_CPU_GPU_CV: all of it is reported as the CPU's energy, and there is no GPU. A training that moves from the
# CPU to the GPU stays "on the CPU", and two boards are compared by different things: on AGX Orin the rail VDD_GPU_SOC, memory controllers
# and all, is the GPU's, and there is no total at all ("_in" and "system" are looked for, its 5 V rail is VIN_SYS_5V0).
#
#   Orin Nano, 5.0 V of 0.1 A for VDD_SOC, 0.8 A for VDD_CPU_GPU_CV, 1.2 A for VDD_IN: cpu 4000 mW, gpu none, total 6000 mW
#   AGX Orin, 5.0 V of 0.8 A for VDD_GPU_SOC, 0.4 A for VDD_CPU_CV, 2.0 A for VIN_SYS_5V0: cpu 2000 mW, gpu 4000 mW, total none
#
# Answered by dance_ondevice/energy/ina3221.py: rails keep the names that the board gives them, and none is called CPU or GPU. The files are in
# a temporary folder, to which zeus's paths are led. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'zeus==0.16.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - "$folder" <<'PY'
import sys
from importlib.metadata import version
from pathlib import Path

from zeus.device.soc import jetson


def power(board, rails):
    """What zeus reads in mW on a board with these rails of 5 V: their names, and the mA of each."""
    driver = Path(sys.argv[1]) / board
    sensor = driver / "1-0040" / "hwmon" / "hwmon1"
    sensor.mkdir(parents=True)
    for number, (rail, milliamperes) in enumerate(rails.items(), start=1):
        for name, text in {f"in{number}_label": rail, f"in{number}_input": 5000, f"curr{number}_input": milliamperes}.items():
            (sensor / name).write_text(f"{text}\n")
    jetson.Path = lambda path: driver if str(path) == "/sys/bus/i2c/drivers/ina3221" else Path(path)
    found = jetson.Jetson._discover_available_metrics(None)
    return {name.split("_")[0]: round(way.measure_power()) for name, way in sorted(found.items())}


nano = power("nano", {"VDD_IN": 1200, "VDD_CPU_GPU_CV": 800, "VDD_SOC": 100})
agx = power("agx", {"VDD_GPU_SOC": 800, "VDD_CPU_CV": 400, "VIN_SYS_5V0": 2000})
print(f"zeus {version('zeus')}: Orin Nano {nano}, AGX Orin {agx} (mW)")
raise SystemExit(0 if (nano, agx) == ({"cpu": 4000, "total": 6000}, {"cpu": 2000, "gpu": 4000}) else "this has changed")
PY
