#!/usr/bin/env bash
# codecarbon 3.3.2 on a machine without energy counters (a virtual machine, most boards) estimates from the load. What `tracking_mode=
# "machine"`, the default, says about the machine grows with the cube of the load, what "process" says about one of its processes
# with the load itself: a process that keeps two of four cores busy, alone on its machine, is billed 50 W and the machine with it
# 21 W. So a job is cheap on few cores (half the cores, a fifth of the power, twice the time), and comparisons of one thread
# with four, or of the two modes, measure the formula.
#
#   100 W of four cores, busy cores 1, 2, 3, 4: the process 25, 50, 75, 100 W; the whole machine 11, 21, 48, 100 W
#
# Answered by dance_ondevice/energy/model.py: what is modelled is linear in the busy time and is labelled as modelled.
# The load is given, not measured. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'codecarbon==3.3.2'
"$folder/venv/bin/python" -W ignore - <<'PY'
import logging
from importlib.metadata import version
from types import SimpleNamespace
from unittest import mock

logging.disable(logging.CRITICAL)
from codecarbon.external import hardware  # noqa: E402  its import logs

CORES, WATTS, SECONDS = 4, 100, 10.0


def estimate(busy, mode):
    """Watts that are estimated while so many cores are busy, all with one process."""
    clock = [1000.0]
    with mock.patch.object(hardware.time, "time", lambda: clock[0]):
        cpu = hardware.CPU(output_dir=".", mode="cpu_load", model="a processor", tdp=WATTS, tracking_mode=mode)
        cpu._cpu_count = CORES
        cpu._cpu_load_meter = SimpleNamespace(percent=lambda: 100 * busy / CORES)
        cpu._get_process_cpu_times = lambda: {1: (clock[0] - 1000) * busy}
        cpu._get_power_from_cpus()
        clock[0] += SECONDS
        return round(cpu._get_power_from_cpus().W)


seen = {mode: [estimate(busy, mode) for busy in range(1, CORES + 1)] for mode in ("process", "machine")}
print(f"codecarbon {version('codecarbon')}: {WATTS} W of four cores, W with 1, 2, 3, 4 busy: {seen}")
raise SystemExit(0 if seen == {"process": [25, 50, 75, 100], "machine": [11, 21, 48, 100]} else "this has changed")
PY
