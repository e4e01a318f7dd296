"""The Raspberry Pi 5's power chip, read by ``vcgencmd pmic_read_adc``.

It measures voltage and current of the supplies that it makes: processor, memory, 3.3 V, 1.8 V and so on.
Loads on 5 V do not pass through it: USB devices, HATs, fans, and the losses of the chip itself.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence

from dance_ondevice.energy.sensors import COUNTER_PERIOD_S, MeterUnavailable, Sample, SensorMeter
from dance_ondevice.energy.sysfs import reason
from dance_ondevice.energy.tracks import PowerTrack

#: Function that runs a command and returns its output; it raises ``OSError`` if the command fails.
Run = Callable[[Sequence[str]], str]

COMMAND = ("vcgencmd", "pmic_read_adc")
#: Domain of the sum of all supplies that the chip measures; the board uses more, so it has another name.
DOMAIN = "pmic-rails"

#: ``VDD_CORE_A current(7)=1.25020000A`` and ``VDD_CORE_V volt(15)=0.72038030V``.
_LINE = re.compile(r"\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=(-?\d+(?:\.\d+)?)[AV]\s*")
_TIMEOUT_S = 2.0
#: Longest gap between samples in seconds; it is long, since each sample starts a process.
_MAX_GAP_S = 5.0


def run_command(command: Sequence[str]) -> str:
    """Run a command and return its output.

    Raises:
        OSError: The command is not installed, takes too long or fails.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{command[0]} did not answer within {_TIMEOUT_S:g} s") from error
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip() or done.returncode}")
    return done.stdout


def parse_rails(text: str) -> dict[str, float]:
    """Parse the output to watts by rail, for rails with both current and voltage."""
    values: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            values.setdefault(match[1], {})[match[2]] = float(match[3])
    return {rail: v["A"] * v["V"] for rail, v in values.items() if len(v) == 2}


def open_pmic(run: Run = run_command) -> SensorMeter:
    """Open the rails of the Raspberry Pi 5's power chip.

    Raises:
        MeterUnavailable: The command is missing or lists no rails (a Raspberry Pi 4 has none).
    """
    try:
        output = run(COMMAND)
    except FileNotFoundError:
        raise MeterUnavailable("pmic", "no command vcgencmd on the PATH, as on a Raspberry Pi") from None
    except OSError as error:
        no_rights = "vcio" in reason(error)
        remedy = "give the service /dev/vcio and the group video (docs/energy.md)" if no_rights else ""
        raise MeterUnavailable("pmic", reason(error), remedy) from error
    rails = tuple(parse_rails(output))
    if not rails:
        said = " ".join(output.split())[:80]
        raise MeterUnavailable(
            "pmic", f"{' '.join(COMMAND)} names no rail with current and voltage: {said!r}"
        )

    def sample() -> Sample:
        try:
            watts = parse_rails(run(COMMAND))
        except OSError as error:
            return Sample({}, dict.fromkeys([DOMAIN, *rails], reason(error)))
        missing = [rail for rail in rails if rail not in watts]
        if missing:
            return Sample(watts, {DOMAIN: f"no current or voltage of {', '.join(missing)}"})
        return Sample({**watts, DOMAIN: sum(watts[rail] for rail in rails)})

    return SensorMeter(
        source="pmic",
        about=f"the Pi's power chip: {len(rails)} supplies; loads on 5 V (USB, HATs, fan) are not measured",
        period_s=COUNTER_PERIOD_S,
        sample=sample,
        whole={DOMAIN: PowerTrack(_MAX_GAP_S)},
        parts={rail: PowerTrack(_MAX_GAP_S) for rail in rails},
    )
