#!/usr/bin/env bash
# psutil 7.2.2, Linux: `sensors_battery().secsleft` of a gauge that tells the time itself (`time_to_empty_now`, in place of a charge and a
# current) is sixty times too long: the kernel gives seconds, as for every time under power_supply (Documentation/power), psutil takes them
# for minutes. Ten minutes before the end a board still hears ten hours. Where a gauge gives charge in uAh and power in uW, psutil divides
# the one by the other as if both were of energy: at 12 V the time is a twelfth of the real one, at 3.7 V a quarter.
#
#   600 s left: 36000; 36 Wh at 10 W (12960 s): as energy and power 12960, as 3 Ah at 12 V and power 1080
#
# Answered by dance_ondevice/energy/battery.py, which takes no time from a gauge. The files are in a temporary folder, to which psutil's
# constant is led. Needs python3, a network and Linux. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'psutil==7.2.2'
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
from pathlib import Path

import psutil
from psutil import _pslinux


def seconds_left(name, **files):
    """What psutil says of a battery that discharges and has these files."""
    battery = Path(sys.argv[1]) / name / "BAT0"
    battery.mkdir(parents=True)
    for file, text in {"status": "Discharging", "capacity": "50", **files}.items():
        (battery / file).write_text(f"{text}\n")
    _pslinux.POWER_SUPPLY_PATH = str(battery.parent)
    return psutil.sensors_battery().secsleft


seen = {
    "time_to_empty_now 600 s": seconds_left("time", time_to_empty_now=600),
    "36 Wh at 10 W": seconds_left("energy", energy_now=36_000_000, power_now=10_000_000),
    "3 Ah of 12 V at 10 W": seconds_left("charge", charge_now=3_000_000, voltage_now=12_000_000, power_now=10_000_000),
}
print(f"psutil {psutil.__version__}, seconds left: {seen}")
raise SystemExit(0 if list(seen.values()) == [36000, 12960, 1080] else "this has changed")
PY
