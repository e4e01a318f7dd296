#!/usr/bin/env bash
# pyRAPL 0.2.3.1, pyJoules 0.5.1, carbontracker 2.4.7: Intel's energy counters start again from 0 (at 262 kJ: an hour at 73 W), the kernel
# says where in max_energy_range_uj, and none of the three reads it. What was 40 J across such a moment is no number at all in
# pyRAPL, as if the machine had no counter, and minus 262 kJ in pyJoules. carbontracker finds it negative, computes it three times
# from the same two readings, and reports 0 W for all packages, also those whose counters went on. No warning, no error.
#
#   40 J across the start: pyRAPL None, pyJoules -262103.3 J, carbontracker 0 W; beside a second package of 30 J: pyRAPL -262103.3 and
#   30.0 J, carbontracker 0 and 0 W
#
# Answered by dance_ondevice/energy/tracks.py (`CounterTrack`) with the range from energy/rapl.py. The counters are files in a temporary
# folder, which `open`, `os.listdir` and `os.path.exists` are led to. Needs python3 and a network. Ends with status 1 if it
# behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pyRAPL==0.2.3.1' 'pyJoules==0.5.1' 'carbontracker==2.4.7'
"$folder/venv/bin/python" -W ignore - "$folder/sys" 2>"$folder/errors" <<'PY' || { status=$?; cat "$folder/errors"; exit $status; }
import builtins
import os
import sys
from importlib.metadata import version
from pathlib import Path

ROOT, REAL = Path(sys.argv[1]), "/sys/"
RANGE = 262_143_328_850
open_file, list_folder, exists = builtins.open, os.listdir, os.path.exists


def led(path):
    """The path in the temporary folder for what lies in /sys of a machine with counters."""
    text = os.fspath(path) if not isinstance(path, int) else ""
    return str(ROOT / text.removeprefix(REAL)) if text.startswith(REAL) else path


builtins.open = lambda path, *rest, **options: open_file(led(path), *rest, **options)
os.listdir = lambda path=".": list_folder(led(path))
os.path.exists = lambda path: exists(led(path))


def write(path, text):
    file = ROOT / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


def counters(*values):
    for number, value in enumerate(values):
        for zone in (f"class/powercap/intel-rapl:{number}", f"class/powercap/intel-rapl/intel-rapl:{number}"):
            write(f"{zone}/name", f"package-{number}")
            write(f"{zone}/energy_uj", value)
            write(f"{zone}/max_energy_range_uj", RANGE)


def machine(packages):
    write("devices/system/cpu/present", f"0-{packages - 1}")
    for number in range(packages):
        write(f"devices/system/cpu/cpu{number}/topology/physical_package_id", number)


def start():
    return [RANGE - 20_000_000, 1_000_000_000]


def end():
    return [20_000_000, 1_030_000_000]


def by_pyrapl(packages):
    import pyRAPL

    pyRAPL.setup(devices=[pyRAPL.Device.PKG])
    counters(*start()[:packages])
    measurement = pyRAPL.Measurement("work")
    measurement.begin()
    counters(*end()[:packages])
    measurement.end()
    joules = measurement.result.pkg
    return joules and [round(joule / 1e6, 1) for joule in joules]


def by_pyjoules(packages):
    from pyJoules.device.rapl_device import RaplDevice, RaplPackageDomain
    from pyJoules.energy_meter import EnergyMeter

    device = RaplDevice()
    device.configure([RaplPackageDomain(number) for number in range(packages)])
    counters(*start()[:packages])
    meter = EnergyMeter([device])
    meter.start()
    counters(*end()[:packages])
    meter.stop()
    return [round(joule / 1e6, 1) for joule in meter.get_trace()[0].energy.values()]


def by_carbontracker(packages):
    from carbontracker.components.cpu import intel

    counters(*start()[:packages])
    cpu = intel.IntelCPU([], {})
    cpu.init()
    intel.time.sleep = lambda _: counters(*end()[:packages])
    return cpu.power_usage()


seen = []
for packages in (1, 2):
    machine(packages)
    counters(*start()[:packages])
    for name, by in (("pyRAPL", by_pyrapl), ("pyJoules", by_pyjoules), ("carbontracker", by_carbontracker)):
        found = by(packages)
        seen.append(found)
        print(f"{name} {version(name)}, {packages} package(s), 40 J{' and 30 J' * (packages - 1)}: {found}")
good = [None, [-262103.3], [0.0], [-262103.3, 30.0], [-262103.3, 30.0], [0.0, 0.0]]
raise SystemExit(0 if seen == good else "this has changed")
PY
