#!/usr/bin/env bash
# eco2ai 0.3.12 takes the power of a processor from a table of those of desktops and servers; one that is not in it, as the Arm cores of
# Raspberry Pi and Jetson, counts as 100.1 W at full load, sixteen times what a Pi 4 draws in all. There is a warning for it, with an option
# to switch it off; it never comes, with the option either way: `find_tdp_value` gets the option in the place of another argument. So
# a fine-tuning on a board costs as much as on a workstation that is as busy, or more, and the report says nothing of a guess.
#
#   Cortex-A72 100.1 W, Cortex-A78AE 100.1 W, Intel N100 6.0 W; warnings 0 of 3; the function by itself, told to warn: 1
#
# Answered by dance_ondevice/energy/model.py: what is modelled is labelled as modelled, with the board's own watts.
# The names are given, not read from the machine. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'eco2ai==0.3.12' 'setuptools==80.9.0' 'numpy==2.2.6' 'pandas==2.3.3'
"$folder/venv/bin/python" -W ignore - <<'PY'
import warnings
from importlib.metadata import version
from unittest import mock

from eco2ai.tools import tools_cpu


def watts(name):
    """The power at full load that a tracker assumes for a processor of this name, and the warnings about it."""
    with mock.patch.object(tools_cpu, "get_cpu_info", lambda: {"brand_raw": name}), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        power = tools_cpu.CPU(ignore_warnings=False).tdp()
    return power, sum(issubclass(warning.category, tools_cpu.NoCPUinTableWarning) for warning in said)


seen = {name: watts(name) for name in ("Cortex-A72", "Cortex-A78AE", "Intel(R) N100")}
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    tools_cpu.find_tdp_value("Cortex-A72", tools_cpu.CPU_TABLE_NAME, ignore_warnings=False)
alone = sum(issubclass(warning.category, tools_cpu.NoCPUinTableWarning) for warning in said)
print(f"eco2ai {version('eco2ai')}: W and warnings: {seen}; the function by itself, told to warn: {alone}")
raise SystemExit(0 if list(seen.values()) == [(100.1, 0), (100.1, 0), (6.0, 0)] and alone == 1 else "this has changed")
PY
