#!/usr/bin/env bash
# adafruit-circuitpython-ina3221 1.2.3, on a bus that only holds registers: `shunt_voltage_sum_limit`, the alarm for the sum of the three
# channels, is written into the register of the power-valid limit (0x10, the data sheet has it at 0x0E). Reading it back gives what was there
# before, the alarm never comes, and the signal that tells of good supply voltages goes by a number of another unit: 0.1 V over the shunts
# make 5.0 V. What flows out of a channel's load, as when a battery is charged, is one step (40 uV, 0.4 mA at 0.1 ohm, 8 mA at the
# 5 milliohm of a Jetson) too small, the smallest is 0: negative numbers are inverted and not counted on by one.
#
#   limit 0.1: register 0x10, read back 0.0; power-valid limits now 0.0 and 5.0 V; -0.40 mV: -0.36, -0.04 mV: 0; 0.40 mV: 0.40
#
# Answered by dance_ondevice/energy/ina3221.py: the kernel's driver reads the chip. Needs python3 and a network, no chip. Ends with status 1 if
# it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'adafruit-circuitpython-ina3221==1.2.3' 'adafruit-circuitpython-busdevice==5.2.17' 'adafruit-blinka==10.0.0'
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
from adafruit_ina3221 import INA3221


class Registers:
    """An I2C bus with one chip that keeps what is written to its registers of two bytes."""

    def __init__(self):
        self.words, self.at, self.written = {}, 0, []

    def try_lock(self):
        return True

    def unlock(self):
        pass

    def writeto(self, address, data, *, start=0, end=None):
        data = bytes(data)[start:end]
        if data:
            self.at = data[0]
        if len(data) > 1:
            self.words[self.at] = int.from_bytes(data[1:], "big")
            self.written.append(self.at)

    def readfrom_into(self, address, buffer, *, start=0, end=None):
        buffer[:] = self.words.get(self.at, 0).to_bytes(2, "big")


bus = Registers()
chip = INA3221(bus)
bus.written.clear()
chip.shunt_voltage_sum_limit = 0.1
limit = [hex(register) for register in bus.written], chip.shunt_voltage_sum_limit, chip.power_valid_limits
read = {}
for steps in (10, 1, -1, -10):
    bus.words[1] = steps * 8 & 0xFFFF  # 40 uV a step, in the upper 13 bits, two's complement
    read[round(0.04 * steps, 2)] = round(chip[0].shunt_voltage, 3) + 0.0
print(f"adafruit-circuitpython-ina3221 1.2.3: sum limit 0.1 written to {limit[0]}, read back {limit[1]}, power-valid limits {limit[2]}; mV: {read}")
expected = (["0x10"], 0.0, (0.0, 5.0)), {0.4: 0.4, 0.04: 0.04, -0.04: 0.0, -0.4: -0.36}
raise SystemExit(0 if (limit, read) == expected else "this has changed")
PY
