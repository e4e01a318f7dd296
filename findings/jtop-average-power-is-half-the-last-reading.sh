#!/usr/bin/env bash
# jetson-stats 7.2.2 (jtop), the usual meter of a Jetson: `avg` beside each rail and the total, shown as "Avg" and set back by
# `reset_avg_power`, as of a mean since then, is (reading + last avg) // 2. The last reading is half of it and the last four are 94 %,
# so that it times the seconds is no energy: a board that ran at 5 W for ten minutes and at 15 W for the last second "averaged"
# 10 W. Without an input rail (VIN, VDD_IN, POM_5V_IN), the total adds all that has a voltage and a current, a charging battery too.
#
#   600 readings of 5 W and one of 15 W: mean 5.0 W, avg 10.0 W; rails of 5 W beside a battery that charges at 8 W: total 13.0 W
#
# Answered by dance_ondevice/energy/tracks.py (`PowerTrack`), which integrates power over time, and energy/ina3221.py, which reads the rails.
# The sensors are files in a temporary folder. The package is unpacked, not installed: its setup would install a service.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'smbus2==0.5.0' 'distro==1.9.0' 'nvidia-ml-py==13.615.71'
"$folder/venv/bin/pip" download --quiet --no-deps --no-binary :all: --dest "$folder" 'jetson-stats==7.2.2'
tar -xzf "$folder"/jetson?stats-7.2.2.tar.gz -C "$folder"
PYTHONPATH="$(echo "$folder"/jetson?stats-7.2.2)" "$folder/venv/bin/python" -W ignore - "$folder/sys" <<'PY'
import logging
import sys
from pathlib import Path

logging.disable(logging.CRITICAL)

import jtop
from jtop.core.power import PowerService, find_all_i2c_power_monitor, find_all_system_monitor

root = Path(sys.argv[1])
monitor, supplies = root / "i2c/1-0040", root / "power_supply"


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


def rail(label, milliamperes):
    """One rail of 5 V at an INA3221, as the kernel shows it."""
    write(monitor / "name", "ina3221")
    sensor = monitor / "hwmon/hwmon0"
    for name, text in (("in1_label", label), ("in1_input", 5000), ("curr1_input", milliamperes)):
        write(sensor / name, text)


def service():
    made = PowerService.__new__(PowerService)  # without the search of /sys
    made._power_sensor = {**find_all_i2c_power_monitor(str(root / "i2c")), **find_all_system_monitor(str(supplies))}
    made.reset_avg_power()
    return made


supplies.mkdir(parents=True)
rail("VDD_IN", 1000)
meter, readings = service(), []
for second in range(601):
    rail("VDD_IN", 1000 if second < 600 else 3000)
    total = meter.get_status()["tot"]
    readings.append(total["power"] / 1000)
mean, average = sum(readings) / len(readings), total["avg"] / 1000
print(f"jetson-stats {jtop.__version__}: 600 readings of 5 W and one of 15 W: mean {mean:.1f} W, avg {average:.1f} W")

rail("VDD_CPU_GPU_CV", 1000)
for name, text in (("type", "Battery"), ("status", "Charging"), ("voltage_now", 8_000_000), ("current_now", 1_000_000)):
    write(supplies / "BAT0" / name, text)
summed = service().get_status()["tot"]["power"] / 1000
print(f"a rail of 5 W beside a battery that charges at 8 W: total {summed:.1f} W")
raise SystemExit(0 if (round(mean, 1), average, summed) == (5.0, 10.0, 13.0) else "this has changed")
PY
