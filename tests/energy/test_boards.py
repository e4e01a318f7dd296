"""Every board of trees/boards.txt is measured for 20 s and compared with what its dump says is true."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fake_boards import TREES, joules, parts

from dance_ondevice.energy.battery import find_batteries, total_charge_percent
from dance_ondevice.energy.choose import SOURCES, Machine, best_meter
from dance_ondevice.energy.reading import EnergyReading, SourceMeter
from dance_ondevice.energy.sensors import MeterUnavailable
from dance_ondevice.energy.sysfs import read_attribute

SECONDS = 20.0
SHORT = {"h": "class/hwmon/hwmon", "iio": "bus/iio/devices/iio:device"}
LONG = {"ps/": "class/power_supply/", "pc/": "class/powercap/"}


@dataclass
class Board:
    """A board of the list: its files, and what must be measured on it."""

    name: str
    files: dict[str, str] = field(default_factory=dict)
    expected: dict[str, list[str]] = field(default_factory=dict)

    def first(self, word: str) -> str | None:
        return self.expected[word][0] if word in self.expected else None


def read_boards() -> dict[str, Board]:
    boards: dict[str, Board] = {}
    for line in (TREES / "boards.txt").read_text().splitlines():
        if match := re.match(r"\[(\w+)\] \S", line):
            board = boards[match[1]] = Board(match[1])
        elif line.startswith("@"):
            word, _, rest = line[1:].partition(" ")
            board.expected.setdefault(word, []).append(rest)
        elif line and not line.startswith("#"):
            path, value = line.split(": ", 1)
            board.files[long_path(path)] = value
    return boards


def long_path(path: str) -> str:
    for short, full in LONG.items():
        if path.startswith(short):
            return full + path.removeprefix(short)
    if match := re.match(r"(h|iio)(\d+/.*)", path):
        return SHORT[match[1]] + match[2]
    return path


class Running:
    """A board's sysfs at a moment: ``now`` moves its counters."""

    def __init__(self, board: Board, root: Path) -> None:
        self.board, self.root, self.now = board, root, 0.0
        for path in board.files:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text("")

    def read(self, path: Path) -> str:
        value = self.board.files.get(str(path.relative_to(self.root)))
        if value is None:
            return read_attribute(path)
        if value.startswith("!"):
            number = getattr(errno, value[1:])
            raise OSError(number, os.strerror(number), str(path))
        if match := re.fullmatch(r"(\d+) ([+-])([\d.]+)W", value):
            micro = float(match[3]) * self.now * 1e6 / (1 if match[2] == "+" else -3600)
            return str(int((int(match[1]) + micro) % self.range_of(path)))
        return value

    def range_of(self, path: Path) -> int:
        told = self.board.files.get(str((path.parent / "max_energy_range_uj").relative_to(self.root)))
        return int(told) if told else 2**62

    def run(self, command: Sequence[str]) -> str:
        watts = self.board.first("pmic")
        if watts is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", command[0])
        if watts == "error":
            return 'error=1 error_msg="Command not registered"'
        rails = [f"RAIL{n}" for n in range(12)]
        amperes = [f"   {rail}_A current({n})={float(watts) / 12:.8f}A" for n, rail in enumerate(rails)]
        volts = [f"   {rail}_V volt({n + 12})=1.00000000V" for n, rail in enumerate(rails)]
        return "\n".join(
            [*amperes, *volts, "     EXT5V_V volt(24)=5.05716000V", "      BATT_V volt(25)=0.0V"]
        )

    @property
    def machine(self) -> Machine:
        return Machine(sysfs=self.root, read=self.read, run=self.run)

    def measure(self, meter: SourceMeter) -> EnergyReading:
        reading = meter.read(0.0)
        while self.now < SECONDS:
            self.now = min(SECONDS, self.now + meter.period_s)
            reading = meter.read(self.now)
        return reading


BOARDS = read_boards()


@pytest.fixture(params=BOARDS)
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Running:
    return Running(BOARDS[request.param], tmp_path)


def test_the_board_is_measured_as_its_dump_says(running: Running) -> None:
    expected = running.board
    wanted = expected.first("auto")
    if wanted is None:
        return
    meter, passed = best_meter(running.machine)
    told = "; ".join([*map(str, passed), *(error.offer for error in passed)])
    if wanted == "none":
        assert meter is None
    else:
        source, watts = wanted.split()
        assert meter is not None
        assert meter.source == source
        reading = running.measure(meter)
        told += meter.about
        assert reading.joules / SECONDS == pytest.approx(float(watts), rel=0.01)
        assert reading.watts == pytest.approx(float(watts), rel=0.01)
        assert (reading.unmeasured_seconds, dict(reading.faults)) == (0, {})
        # A part is counted once, and in the whole.
        assert sum(parts(reading).values()) <= reading.joules + 1e-6
        if (shown := expected.first("parts")) is not None:
            names = shown.split(";") if ";" in shown else shown.split()
            assert set(parts(reading)) == set(names)
    assert all(text in told for text in expected.expected.get("says", []))


@pytest.mark.parametrize("name", [name for name, board in BOARDS.items() if "named" in board.expected])
def test_a_named_meter_sees_the_same(tmp_path: Path, name: str) -> None:
    running = Running(BOARDS[name], tmp_path)
    source, watts = BOARDS[name].expected["named"][0].split()
    if watts == "refused":
        with pytest.raises(MeterUnavailable):
            SOURCES[source](running.machine)
        return
    reading = running.measure(SOURCES[source](running.machine))
    assert sum(joules(reading).values()) / SECONDS == pytest.approx(float(watts), rel=0.01)
    unmeasured = SECONDS if "unmeasured" in BOARDS[name].expected else 0
    assert reading.unmeasured_seconds == pytest.approx(unmeasured)


@pytest.mark.parametrize("name", [name for name, board in BOARDS.items() if "charge" in board.expected])
def test_the_charge_is_that_of_all_batteries(tmp_path: Path, name: str) -> None:
    running = Running(BOARDS[name], tmp_path)
    found = total_charge_percent(find_batteries(running.root, running.read), running.read)
    assert found == pytest.approx(float(BOARDS[name].expected["charge"][0]), abs=0.5)
