#!/usr/bin/env bash
# adafruit-circuitpython-max1704x 1.1.0, on a bus that only holds registers: a fuel gauge follows a battery for as long as it is connected, and a
# program asks it. `MAX17048(i2c)` writes 0x5400 to the chip's command register first, a reset as if the battery had been taken out: the
# state of charge that was followed until then is dropped, and the chip guesses it anew from the voltage of that moment, which is low under
# load and high on a charger (the data sheet's "power-on reset"). So each start of a service, each `cron` job that reads one number, moves the
# number; alarms' thresholds, the battery's compensation and hibernation are at the factory's values again. No option leaves it out.
#
#   written when it was opened: 0x5400 to register 0xfe, before anything is read of the battery; alarm at 0x32 before, gone after
# Needs python3 and a network, no chip. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'adafruit-circuitpython-max1704x==1.1.0' 'adafruit-circuitpython-busdevice==5.2.17' \
  'adafruit-circuitpython-register==1.13.0' 'adafruit-circuitpython-typing==1.13.0' 'adafruit-blinka==10.0.0'
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import inspect

from adafruit_max1704x import MAX17048

VERSION, COMMAND, CHARGE, VALERT = 0x08, 0xFE, 0x04, 0x14


class Gauge:
    """An I2C bus with a gauge that keeps its registers, and loses them and does not answer when it is reset, as the real one."""

    def __init__(self):
        self.bytes, self.seen = {VERSION: 0x00, VERSION + 1: 0x12, VALERT: 0x32}, []

    def try_lock(self):
        return True

    def unlock(self):
        pass

    def writeto(self, address, data, *, start=0, end=None):
        data = bytes(data)[start:end]
        if len(data) > 1:
            self.seen.append(("written", hex(data[0]), data[1:].hex()))
            if data[0] == COMMAND and data[1:] == b"\x54\x00":
                self.bytes = {VERSION: 0x00, VERSION + 1: 0x12}
                raise OSError("no answer")
            self.bytes |= {data[0] + offset: value for offset, value in enumerate(data[1:])}

    def writeto_then_readfrom(self, address, out, into, *, out_start=0, out_end=None, in_start=0, in_end=None):
        at = bytes(out)[out_start:out_end][0]
        self.seen.append(("read", hex(at)))
        in_end = len(into) if in_end is None else in_end
        into[in_start:in_end] = bytes(self.bytes.get(at + offset, 0) for offset in range(in_end - in_start))


bus = Gauge()
MAX17048(bus)
first = next(each for each in bus.seen if each[0] == "written")
asked_before = ("read", hex(CHARGE)) in bus.seen[: bus.seen.index(first)]
options = list(inspect.signature(MAX17048).parameters)
print(f"adafruit-circuitpython-max1704x 1.1.0: first written: {first[1:]}, charge read before it: {asked_before}, "
      f"threshold of the alarm afterwards: {bus.bytes.get(VALERT)}, options {options}")
good = first == ("written", hex(COMMAND), "5400") and not asked_before and VALERT not in bus.bytes and options == ["i2c_bus", "address"]
raise SystemExit(0 if good else "this has changed")
PY
